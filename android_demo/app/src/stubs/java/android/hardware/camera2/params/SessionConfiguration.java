package android.hardware.camera2.params;

import android.hardware.camera2.CameraCaptureSession;
import java.util.List;
import java.util.concurrent.Executor;

public class SessionConfiguration {
    public static final int SESSION_REGULAR = 0;

    public SessionConfiguration(int sessionType, List<OutputConfiguration> outputs, Executor executor,
            CameraCaptureSession.StateCallback callback) {}
}
