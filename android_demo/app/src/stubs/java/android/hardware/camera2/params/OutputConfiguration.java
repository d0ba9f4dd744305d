package android.hardware.camera2.params;

import android.view.Surface;

public class OutputConfiguration {
    public OutputConfiguration(Surface surface) {}

    public void setPhysicalCameraId(String physicalCameraId) {}
}
