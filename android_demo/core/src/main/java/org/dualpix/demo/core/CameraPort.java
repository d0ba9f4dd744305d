package org.dualpix.demo.core;

import java.io.Closeable;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Map;
import org.dualpix.demo.core.Messages.PhoneCamera;

/** A camera whose lens is sent to positions; used from one thread. */
public interface CameraPort {
    /** What a frame is to be taken with. */
    record Aim(double diopters, long exposureNs, int iso, double fNumber) {}

    /** Exposure that the phone chose itself. */
    record Metered(long exposureNs, int iso, double fNumber) {}

    /**
     * What a capture result says; {@code stationary} is false too where the phone does not say.
     *
     * @param timestampNs SENSOR_TIMESTAMP
     * @param origin what the port needs besides to write the frame, or null
     */
    record Report(long timestampNs, double diopters, boolean stationary, long exposureNs, int iso, double fNumber,
            String physicalId, Object origin) {}

    /** An image of the sensor, to be closed. */
    interface RawImage extends Closeable {
        long timestampNs();

        /** Writes the frame as DNG, with the result that belongs to it. */
        void write(Report report, OutputStream out) throws IOException;

        @Override
        void close();
    }

    /** Part of a still: either of the two is null. */
    record StillPart(Report report, RawImage image) {}

    /**
     * The characteristics of a camera, which is not opened for it.
     *
     * @param id as Camera2 numbers them, null for the main back camera
     */
    PhoneCamera describe(String id) throws CameraFault;

    /** Takes possession of the camera that was described. */
    void open() throws CameraFault;

    /** Meters once with the phone's own automatic, and leaves white balance as it is then. */
    Metered meter() throws CameraFault;

    /** Sends the lens; reports come from now on. */
    void send(Aim aim) throws CameraFault;

    /** The next report, or null where none comes in that time. */
    Report nextReport(long timeoutMs) throws CameraFault;

    /** Takes a still; its parts come in any order. */
    void shoot(Aim aim) throws CameraFault;

    /** The next part of the still, or null where none comes in that time. */
    StillPart nextPart(long timeoutMs) throws CameraFault;

    /** Why it is better to end now, or null: heat. */
    default String warning() {
        return null;
    }

    /** What Android says besides about the camera and its settings, as JSON. */
    Map<String, Object> details();

    /** Lets go of the camera; may be called at any time, twice, and where it was never opened. */
    void close();
}
