package android.hardware.camera2;

import java.util.Set;

public abstract class CameraCharacteristics extends CameraMetadata {
    public static final Key<int[]> DISTORTION_CORRECTION_AVAILABLE_MODES = null;
    public static final Key<float[]> LENS_DISTORTION = null;

    public abstract <T> T get(Key<T> key);

    public abstract Set<String> getPhysicalCameraIds();

    public abstract static class Key<T> {}
}
