package android.hardware.camera2;

public abstract class CameraMetadata {
    public static final int DISTORTION_CORRECTION_MODE_OFF = 0;
}
