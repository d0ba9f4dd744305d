package android.os;

public abstract class PowerManager {
    public static final int THERMAL_STATUS_SEVERE = 3;

    public abstract int getCurrentThermalStatus();
}
