package android.hardware.camera2;

public class CaptureResult extends CameraMetadata {
    public static final Key<String> LOGICAL_MULTI_CAMERA_ACTIVE_PHYSICAL_ID = null;

    public <T> T get(Key<T> key) {
        return null;
    }

    public abstract static class Key<T> {}
}
