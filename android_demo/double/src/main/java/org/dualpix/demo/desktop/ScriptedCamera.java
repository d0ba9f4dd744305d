package org.dualpix.demo.desktop;

import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.CameraPort;
import org.dualpix.demo.core.Clock;
import org.dualpix.demo.core.Fields;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages;
import org.dualpix.demo.core.Messages.Device;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.PhoneCamera;

/**
 * A lens and a sensor as a script tells: how many results the lens moves for, where it stops, which faults strike, and
 * which prepared DNG files the frames are.
 *
 * <p>The script is a JSON object: {@code device} and {@code camera} as in the protocol; {@code metered}
 * {exposure_ns, iso, f_number}; {@code result_ms} between two capture results; {@code lens} {start_d, moving_results,
 * error_d (standard deviation), seed}; {@code frames}, a list of {file, diopters, f_number}: of those whose f-number is
 * that of the still, or who have none, the one with the nearest focus, those without a focus in turn; {@code faults}, a
 * list of {at, nth, times, kind}: {@code at} is {@code open}, {@code send} or {@code still}, and the kinds are those of
 * {@link #open}, {@link #send} and {@link #shoot}. With {@code state}, a line is written there for every still.
 */
public final class ScriptedCamera implements CameraPort {
    private static final int MAX_SCRIPT_BYTES = 4 << 20;

    private record Frame(String file, Double diopters, Double fNumber) {}

    private record Fault(String at, int nth, int times, String kind) {}

    private final Clock clock;
    private final File frameFolder;
    private final File state;
    private final Device device;
    private final PhoneCamera camera;
    private final Metered metered;
    private final long resultMs;
    private final int movingResults;
    private final double errorD;
    private final Random random;
    private final List<Frame> frames = new ArrayList<>();
    private final List<Fault> faults = new ArrayList<>();
    private final Deque<StillPart> parts = new ArrayDeque<>();
    private double positionD;
    private int movesLeft;
    private int opens;
    private int sends;
    private int stills;
    private Aim aim;
    private String lensFault;
    private File lastFile;
    private boolean isOpen;
    private boolean lost;

    /**
     * Reads a script.
     *
     * @param state where to note every still, or null
     * @throws IOException it cannot be read
     */
    public ScriptedCamera(File script, File frameFolder, File state, Clock clock) throws IOException {
        this.clock = clock;
        this.frameFolder = frameFolder;
        this.state = state;
        Fields f = Fields.parse(Folders.read(script, MAX_SCRIPT_BYTES), script.getName());
        device = Messages.device(f.object("device"));
        camera = Messages.camera(f.object("camera"));
        Fields chosen = f.object("metered");
        metered = new Metered(chosen.whole("exposure_ns", 1, 1_000_000_000_000L), chosen.count("iso", 1, 10_000_000),
                chosen.number("f_number", 0.1, 1000));
        resultMs = f.whole("result_ms", 0, 1000);
        Fields lens = f.object("lens");
        positionD = lens.number("start_d", 0, 1000);
        movingResults = lens.count("moving_results", 0, 10_000);
        errorD = lens.number("error_d", 0, 10);
        random = new Random(lens.whole("seed", 0, Integer.MAX_VALUE));
        for (Fields frame : f.objects("frames", 1, 10_000)) {
            frames.add(new Frame(frame.text("file"), frame.optional("diopters", key -> frame.number(key, 0, 1000)),
                    frame.optional("f_number", key -> frame.number(key, 0.1, 1000))));
        }
        for (Fields fault : f.objects("faults", 0, 100)) {
            faults.add(new Fault(fault.oneOf("at", "open", "send", "still"), fault.count("nth", 1, 100_000),
                    fault.has("times") ? fault.count("times", 1, 100_000) : 1, fault.text("kind")));
        }
    }

    /** The phone that the script plays. */
    public Device device() {
        return device;
    }

    @Override
    public PhoneCamera describe(String id) throws CameraFault {
        if (id != null && !id.equals(camera.id())) {
            throw new CameraFault(FailureKind.PLAN, "no camera '" + id + "'");
        }
        return camera;
    }

    /** Faults: {@code busy}, {@code permission}, {@code hot}. */
    @Override
    public void open() throws CameraFault {
        String fault = strike("open", ++opens);
        if ("busy".equals(fault)) {
            throw new CameraFault(FailureKind.BUSY, "camera " + camera.id() + " is in use by another app");
        }
        if ("permission".equals(fault)) {
            throw new CameraFault(FailureKind.PERMISSION, "the app may not use the camera");
        }
        isOpen = true;
        lost = false;
    }

    @Override
    public Metered meter() throws CameraFault {
        checkOpen();
        return metered;
    }

    /** Faults: {@code never_stationary}, {@code wrong_distance}, {@code silent}, {@code camera_closed}. */
    @Override
    public void send(Aim wanted) throws CameraFault {
        checkOpen();
        lensFault = strike("send", ++sends);
        lost = "camera_closed".equals(lensFault);
        checkOpen();
        boolean moves = aim == null || wanted.diopters() != aim.diopters();
        aim = wanted;
        if ("wrong_distance".equals(lensFault)) {
            positionD = Math.abs(wanted.diopters() - 0.5);
        } else if (moves || Math.abs(positionD - wanted.diopters()) > 4 * errorD) {
            positionD = Math.max(0, wanted.diopters() + errorD * random.nextGaussian());
        }
        movesLeft = movingResults;
    }

    @Override
    public Report nextReport(long timeoutMs) throws CameraFault {
        checkOpen();
        if ("silent".equals(lensFault)) {
            clock.sleep(timeoutMs);
            return null;
        }
        clock.sleep(resultMs);
        boolean moving = movesLeft > 0 || "never_stationary".equals(lensFault);
        movesLeft = Math.max(0, movesLeft - 1);
        return report(!moving, positionD);
    }

    /**
     * Faults: {@code dropped_image}, {@code timestamp_mismatch}, {@code moved}, {@code duplicate}, {@code storage},
     * {@code camera_closed}.
     */
    @Override
    public void shoot(Aim wanted) throws CameraFault {
        checkOpen();
        parts.clear();
        String fault = strike("still", ++stills);
        lost = "camera_closed".equals(fault);
        checkOpen();
        Report report = report(!"moved".equals(fault), positionD);
        File file = "duplicate".equals(fault) && lastFile != null ? lastFile : choose(wanted);
        lastFile = file;
        long time = report.timestampNs() + ("timestamp_mismatch".equals(fault) ? 33_333_333 : 0);
        if (!"dropped_image".equals(fault)) {
            parts.add(new StillPart(null, new FileImage(file, time, "storage".equals(fault))));
        }
        parts.add(new StillPart(report, null));
        note(file, report, fault);
    }

    @Override
    public StillPart nextPart(long timeoutMs) throws CameraFault {
        checkOpen();
        StillPart part = parts.poll();
        clock.sleep(part == null ? timeoutMs : resultMs);
        return part;
    }

    @Override
    public String warning() {
        return "hot".equals(strike("open", opens)) ? "the phone is too hot (critical)" : null;
    }

    @Override
    public Map<String, Object> details() {
        return Json.object("scripted", true);
    }

    @Override
    public void close() {
        isOpen = false;
    }

    private Report report(boolean stationary, double diopters) {
        return new Report(clock.millis() * 1_000_000 + stills, diopters, stationary, aim.exposureNs(), aim.iso(),
                aim.fNumber(), null, null);
    }

    private File choose(Aim wanted) {
        Frame best = null;
        List<Frame> inTurn = new ArrayList<>();
        for (Frame frame : frames) {
            if (frame.fNumber() != null && Math.abs(frame.fNumber() - wanted.fNumber()) > 0.01 * wanted.fNumber()) {
                continue;
            }
            if (frame.diopters() == null) {
                inTurn.add(frame);
            } else if (best == null
                    || Math.abs(frame.diopters() - positionD) < Math.abs(best.diopters() - positionD)) {
                best = frame;
            }
        }
        if (best == null && inTurn.isEmpty()) {
            throw new IllegalStateException("the script has no frame at f/" + wanted.fNumber());
        }
        return Folders.child(frameFolder, (best != null ? best : inTurn.get((stills - 1) % inTurn.size())).file());
    }

    private void note(File file, Report report, String fault) {
        if (state == null) {
            return;
        }
        try {
            Folders.append(state, Json.write(Json.object("still", stills, "file", file.getName(), "diopters", positionD,
                    "exposure_ns", report.exposureNs(), "iso", report.iso(), "f_number", report.fNumber(), "fault",
                    fault)) + "\n");
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private String strike(String at, int count) {
        for (Fault fault : faults) {
            if (fault.at().equals(at) && count >= fault.nth() && count < fault.nth() + fault.times()) {
                return fault.kind();
            }
        }
        return null;
    }

    private void checkOpen() throws CameraFault {
        if (!isOpen || lost) {
            isOpen = false;
            throw new CameraFault(FailureKind.CAMERA, "camera " + camera.id() + " was closed");
        }
    }

    private record FileImage(File file, long timestampNs, boolean full) implements RawImage {
        @Override
        public void write(Report report, OutputStream out) throws IOException {
            if (full) {
                throw new IOException("no space left on device");
            }
            Files.copy(file.toPath(), out);
        }

        @Override
        public void close() {
            // a file needs no closing
        }
    }
}
