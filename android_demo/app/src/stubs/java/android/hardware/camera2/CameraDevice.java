package android.hardware.camera2;

import android.hardware.camera2.params.SessionConfiguration;
import android.os.Handler;
import android.view.Surface;
import java.util.List;

public abstract class CameraDevice {
    public abstract void createCaptureSession(
            List<Surface> outputs, CameraCaptureSession.StateCallback callback, Handler handler)
            throws CameraAccessException;

    public abstract void createCaptureSession(SessionConfiguration config) throws CameraAccessException;
}
