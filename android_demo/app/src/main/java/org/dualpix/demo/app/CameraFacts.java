package org.dualpix.demo.app;

import android.graphics.ImageFormat;
import android.graphics.Rect;
import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraManager;
import android.hardware.camera2.CameraMetadata;
import android.hardware.camera2.params.BlackLevelPattern;
import android.hardware.camera2.params.StreamConfigurationMap;
import android.util.Range;
import android.util.Size;
import android.util.SizeF;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.PhoneCamera;
import org.dualpix.demo.core.Messages.Quality;

/** One camera of the phone, chosen, and what it tells of itself without being opened. */
final class CameraFacts {
    /** As Camera2 numbers it. */
    final String id;
    /** Of the camera behind a logical one, or null. */
    final String physicalId;
    /** Of the physical camera, where there is one. */
    final CameraCharacteristics sensor;

    private CameraFacts(String id, String physicalId, CameraCharacteristics sensor) {
        this.id = id;
        this.physicalId = physicalId;
        this.sensor = sensor;
    }

    /** Those of the camera {@code wanted}, or of the main back camera where that is null. */
    static CameraFacts of(CameraManager manager, String wanted) throws CameraAccessException, CameraFault {
        String id = wanted == null ? mainBackCamera(manager) : known(manager, wanted);
        CameraCharacteristics logical = manager.getCameraCharacteristics(id);
        String physicalId = mainPhysicalCamera(manager, logical);
        return new CameraFacts(id, physicalId,
                physicalId == null ? logical : manager.getCameraCharacteristics(physicalId));
    }

    /** As the host is told. */
    PhoneCamera describe() throws CameraFault {
        Size array = rawSize();
        SizeF size = need(CameraCharacteristics.SENSOR_INFO_PHYSICAL_SIZE);
        Size pixels = need(CameraCharacteristics.SENSOR_INFO_PIXEL_ARRAY_SIZE);
        Range<Long> exposure = need(CameraCharacteristics.SENSOR_INFO_EXPOSURE_TIME_RANGE);
        Range<Integer> iso = need(CameraCharacteristics.SENSOR_INFO_SENSITIVITY_RANGE);
        List<Double> fNumbers = new ArrayList<>();
        for (float f : need(CameraCharacteristics.LENS_INFO_AVAILABLE_APERTURES)) {
            fNumbers.add(plain(f));
        }
        Float nearest = sensor.get(CameraCharacteristics.LENS_INFO_MINIMUM_FOCUS_DISTANCE);
        Float hyperfocal = sensor.get(CameraCharacteristics.LENS_INFO_HYPERFOCAL_DISTANCE);
        double pitchUm = 1000.0 * size.getWidth() / pixels.getWidth();
        return new PhoneCamera(id, quality(), nearest == null ? 0 : plain(nearest),
                plain(need(CameraCharacteristics.LENS_INFO_AVAILABLE_FOCAL_LENGTHS)[0]), pitchUm, fNumbers,
                Arrays.asList((long) array.getWidth(), (long) array.getHeight()),
                Arrays.asList(exposure.getLower(), exposure.getUpper()),
                Arrays.asList((long) iso.getLower(), (long) iso.getUpper()), stabiliserOff(),
                hyperfocal == null ? null : plain(hyperfocal));
    }

    private Quality quality() {
        Integer found = sensor.get(CameraCharacteristics.LENS_INFO_FOCUS_DISTANCE_CALIBRATION);
        if (found == null || found == CameraMetadata.LENS_INFO_FOCUS_DISTANCE_CALIBRATION_UNCALIBRATED) {
            return Quality.UNCALIBRATED;
        }
        return found == CameraMetadata.LENS_INFO_FOCUS_DISTANCE_CALIBRATION_CALIBRATED ? Quality.CALIBRATED
                : Quality.APPROXIMATE;
    }

    /** Off can be asked for wherever there is a stabiliser at all. */
    private boolean stabiliserOff() {
        int[] modes = sensor.get(CameraCharacteristics.LENS_INFO_AVAILABLE_OPTICAL_STABILIZATION);
        return modes == null || modes.length == 0 || has(modes, CameraMetadata.LENS_OPTICAL_STABILIZATION_MODE_OFF);
    }

    private static String known(CameraManager manager, String wanted) throws CameraAccessException, CameraFault {
        if (!Arrays.asList(manager.getCameraIdList()).contains(wanted)) {
            throw new CameraFault(FailureKind.PLAN, "no camera '" + wanted + "'; there are "
                    + String.join(", ", manager.getCameraIdList()));
        }
        return wanted;
    }

    private static String mainBackCamera(CameraManager manager) throws CameraAccessException, CameraFault {
        for (String candidate : manager.getCameraIdList()) {
            CameraCharacteristics c = manager.getCameraCharacteristics(candidate);
            Integer facing = c.get(CameraCharacteristics.LENS_FACING);
            if (facing != null && facing == CameraMetadata.LENS_FACING_BACK && capable(c)) {
                return candidate;
            }
        }
        throw new CameraFault(FailureKind.PLAN, "no back camera of this phone can be set by hand and gives raw frames");
    }

    /** Of the cameras behind a logical one, the capable one with the focal length that the logical one begins with. */
    private static String mainPhysicalCamera(CameraManager manager, CameraCharacteristics logical)
            throws CameraAccessException {
        float[] focal = logical.get(CameraCharacteristics.LENS_INFO_AVAILABLE_FOCAL_LENGTHS);
        String best = null;
        for (String candidate : Compat.physicalIds(logical)) {
            CameraCharacteristics c = manager.getCameraCharacteristics(candidate);
            float[] own = c.get(CameraCharacteristics.LENS_INFO_AVAILABLE_FOCAL_LENGTHS);
            if (capable(c) && own != null && focal != null && own[0] == focal[0]) {
                best = candidate;
            }
        }
        return best;
    }

    private static boolean capable(CameraCharacteristics c) {
        int[] all = c.get(CameraCharacteristics.REQUEST_AVAILABLE_CAPABILITIES);
        return all != null && has(all, CameraMetadata.REQUEST_AVAILABLE_CAPABILITIES_RAW)
                && has(all, CameraMetadata.REQUEST_AVAILABLE_CAPABILITIES_MANUAL_SENSOR);
    }

    /** The largest raw frame. */
    Size rawSize() throws CameraFault {
        StreamConfigurationMap map = need(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP);
        Size[] sizes = map.getOutputSizes(ImageFormat.RAW_SENSOR);
        if (sizes == null || sizes.length == 0) {
            throw new CameraFault(FailureKind.PLAN, "camera " + id + " gives no raw frames");
        }
        Size best = sizes[0];
        for (Size size : sizes) {
            best = (long) size.getWidth() * size.getHeight() > (long) best.getWidth() * best.getHeight() ? size : best;
        }
        return best;
    }

    /** What is written beside the frames. */
    Map<String, Object> details() {
        BlackLevelPattern black = sensor.get(CameraCharacteristics.SENSOR_BLACK_LEVEL_PATTERN);
        List<Object> levels = new ArrayList<>();
        for (int i = 0; black != null && i < BlackLevelPattern.COUNT; i++) {
            levels.add(black.getOffsetForIndex(i % 2, i / 2));
        }
        Rect active = sensor.get(CameraCharacteristics.SENSOR_INFO_ACTIVE_ARRAY_SIZE);
        return Json.object("physical_id", physicalId, "black_level", levels,
                "white_level", sensor.get(CameraCharacteristics.SENSOR_INFO_WHITE_LEVEL),
                "active_array_px", active == null ? null
                        : Arrays.asList(active.left, active.top, active.right, active.bottom),
                "orientation_degrees", sensor.get(CameraCharacteristics.SENSOR_ORIENTATION),
                "intrinsics_px", list(sensor.get(CameraCharacteristics.LENS_INTRINSIC_CALIBRATION)),
                "distortion", list(Compat.distortion(sensor)));
    }

    private <T> T need(CameraCharacteristics.Key<T> key) throws CameraFault {
        T value = sensor.get(key);
        if (value == null) {
            throw new CameraFault(FailureKind.PLAN, "camera " + id + " does not tell its " + key.getName());
        }
        return value;
    }

    private static List<Object> list(float[] values) {
        List<Object> out = new ArrayList<>();
        for (int i = 0; values != null && i < values.length; i++) {
            out.add(plain(values[i]));
        }
        return out;
    }

    private static boolean has(int[] values, int value) {
        return Arrays.stream(values).anyMatch(v -> v == value);
    }

    /** The double that looks like the float: 1.68, not 1.6799999475479126. */
    static double plain(float value) {
        return Double.parseDouble(Float.toString(value));
    }
}
