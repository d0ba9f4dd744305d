package android.hardware.camera2;

import java.util.Map;

public abstract class TotalCaptureResult extends CaptureResult {
    public abstract Map<String, CaptureResult> getPhysicalCameraResults();
}
