package android.hardware.camera2;

public abstract class CaptureRequest extends CameraMetadata {
    public static final Key<Integer> DISTORTION_CORRECTION_MODE = null;

    public abstract static class Key<T> {}

    public abstract static class Builder {
        public abstract <T> void set(Key<T> key, T value);
    }
}
