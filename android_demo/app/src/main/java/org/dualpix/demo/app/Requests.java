package org.dualpix.demo.app;

import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraMetadata;
import android.hardware.camera2.CaptureRequest;
import android.view.Surface;
import org.dualpix.demo.core.CameraPort.Aim;

/** What the camera is asked for: everything by hand, and nothing done to the picture that a raw frame lacks. */
final class Requests {
    private final CameraDevice device;
    private final CameraCharacteristics sensor;

    Requests(CameraDevice device, CameraCharacteristics sensor) {
        this.device = device;
        this.sensor = sensor;
    }

    /** Frames that the phone exposes as it thinks right, with the focus at infinity. */
    CaptureRequest.Builder metering(Surface view) throws CameraAccessException {
        CaptureRequest.Builder request = plain(CameraDevice.TEMPLATE_PREVIEW, view);
        request.set(CaptureRequest.CONTROL_AE_MODE, CameraMetadata.CONTROL_AE_MODE_ON);
        request.set(CaptureRequest.CONTROL_AWB_LOCK, false);
        request.set(CaptureRequest.LENS_FOCUS_DISTANCE, 0f);
        return request;
    }

    /** Frames that nobody looks at, while the lens goes where it is aimed. */
    CaptureRequest.Builder moving(Surface view, Aim aim) throws CameraAccessException {
        return byHand(CameraDevice.TEMPLATE_PREVIEW, view, aim);
    }

    /** The frame that is wanted. */
    CaptureRequest.Builder still(Surface raw, Aim aim) throws CameraAccessException {
        return byHand(CameraDevice.TEMPLATE_STILL_CAPTURE, raw, aim);
    }

    private CaptureRequest.Builder byHand(int template, Surface target, Aim aim) throws CameraAccessException {
        CaptureRequest.Builder request = plain(template, target);
        request.set(CaptureRequest.CONTROL_AE_MODE, CameraMetadata.CONTROL_AE_MODE_OFF);
        request.set(CaptureRequest.SENSOR_EXPOSURE_TIME, aim.exposureNs());
        request.set(CaptureRequest.SENSOR_SENSITIVITY, aim.iso());
        request.set(CaptureRequest.LENS_APERTURE, (float) aim.fNumber());
        request.set(CaptureRequest.LENS_FOCUS_DISTANCE, (float) aim.diopters());
        return request;
    }

    private CaptureRequest.Builder plain(int template, Surface target) throws CameraAccessException {
        CaptureRequest.Builder request = device.createCaptureRequest(template);
        request.addTarget(target);
        request.set(CaptureRequest.CONTROL_AF_MODE, CameraMetadata.CONTROL_AF_MODE_OFF);
        request.set(CaptureRequest.CONTROL_AWB_LOCK, true);
        request.set(CaptureRequest.CONTROL_VIDEO_STABILIZATION_MODE,
                CameraMetadata.CONTROL_VIDEO_STABILIZATION_MODE_OFF);
        request.set(CaptureRequest.LENS_OPTICAL_STABILIZATION_MODE, CameraMetadata.LENS_OPTICAL_STABILIZATION_MODE_OFF);
        request.set(CaptureRequest.NOISE_REDUCTION_MODE, CameraMetadata.NOISE_REDUCTION_MODE_OFF);
        request.set(CaptureRequest.EDGE_MODE, CameraMetadata.EDGE_MODE_OFF);
        request.set(CaptureRequest.STATISTICS_LENS_SHADING_MAP_MODE,
                CameraMetadata.STATISTICS_LENS_SHADING_MAP_MODE_ON); // DngCreator writes it into the file
        Compat.undistortedOff(request, sensor);
        return request;
    }
}
