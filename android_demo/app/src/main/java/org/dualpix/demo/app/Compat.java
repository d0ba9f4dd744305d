package org.dualpix.demo.app;

import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCaptureSession;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraMetadata;
import android.hardware.camera2.CaptureRequest;
import android.hardware.camera2.CaptureResult;
import android.hardware.camera2.TotalCaptureResult;
import android.hardware.camera2.params.OutputConfiguration;
import android.hardware.camera2.params.SessionConfiguration;
import android.os.Build;
import android.os.Handler;
import android.os.PowerManager;
import android.view.Surface;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;

/** All that is newer than API 26, each behind a look at the version of the phone. */
final class Compat {
    private static final int P = 28;
    private static final int Q = 29;
    private static final int S = 31;
    private static final String[] THERMAL = {
        "none", "light", "moderate", "severe", "critical", "emergency", "shutdown"
    };

    private Compat() {}

    /** The cameras behind a logical one; none where it is a single one. */
    static Set<String> physicalIds(CameraCharacteristics characteristics) {
        return Build.VERSION.SDK_INT >= P ? characteristics.getPhysicalCameraIds() : Collections.emptySet();
    }

    /** A session whose outputs come from one physical camera, or from the camera itself where that is null. */
    static void createSession(CameraDevice camera, List<Surface> surfaces, String physicalId, Handler handler,
            CameraCaptureSession.StateCallback callback) throws CameraAccessException {
        if (Build.VERSION.SDK_INT < P) {
            camera.createCaptureSession(surfaces, callback, handler);
            return;
        }
        List<OutputConfiguration> outputs = new ArrayList<>();
        for (Surface surface : surfaces) {
            OutputConfiguration output = new OutputConfiguration(surface);
            if (physicalId != null) {
                output.setPhysicalCameraId(physicalId);
            }
            outputs.add(output);
        }
        camera.createCaptureSession(
                new SessionConfiguration(SessionConfiguration.SESSION_REGULAR, outputs, handler::post, callback));
    }

    /** What the physical camera says, or the logical one where it says nothing. */
    static CaptureResult physicalResult(TotalCaptureResult result, String physicalId) {
        if (Build.VERSION.SDK_INT < P || physicalId == null) {
            return result;
        }
        CaptureResult physical = result.getPhysicalCameraResults().get(physicalId);
        return physical == null ? result : physical;
    }

    /** LOGICAL_MULTI_CAMERA_ACTIVE_PHYSICAL_ID, or null. */
    static String activePhysicalId(CaptureResult result) {
        return Build.VERSION.SDK_INT >= Q ? result.get(CaptureResult.LOGICAL_MULTI_CAMERA_ACTIVE_PHYSICAL_ID) : null;
    }

    /** Leaves the picture as the lens makes it. */
    static void undistortedOff(CaptureRequest.Builder request, CameraCharacteristics characteristics) {
        if (Build.VERSION.SDK_INT >= P
                && characteristics.get(CameraCharacteristics.DISTORTION_CORRECTION_AVAILABLE_MODES) != null) {
            request.set(CaptureRequest.DISTORTION_CORRECTION_MODE, CameraMetadata.DISTORTION_CORRECTION_MODE_OFF);
        }
    }

    /** LENS_DISTORTION, or null. */
    static float[] distortion(CameraCharacteristics characteristics) {
        return Build.VERSION.SDK_INT >= P ? characteristics.get(CameraCharacteristics.LENS_DISTORTION) : null;
    }

    /** Android's word for the heat, or null where it has none. */
    static String thermal(PowerManager power) {
        if (Build.VERSION.SDK_INT < Q) {
            return null;
        }
        int status = power.getCurrentThermalStatus();
        return status >= 0 && status < THERMAL.length ? THERMAL[status] : "unknown";
    }

    /** Whether the system is about to take measures against the heat. */
    static boolean tooHot(PowerManager power) {
        return Build.VERSION.SDK_INT >= Q && power.getCurrentThermalStatus() >= PowerManager.THERMAL_STATUS_SEVERE;
    }

    /** The chip, or null where Android does not say. */
    static String soc() {
        return Build.VERSION.SDK_INT >= S ? Build.SOC_MANUFACTURER + " " + Build.SOC_MODEL : null;
    }
}
