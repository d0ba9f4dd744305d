package org.dualpix.demo.app;

import android.content.Context;
import android.os.Build;
import android.os.Debug;
import android.os.PowerManager;
import org.dualpix.demo.core.DeviceProbe;
import org.dualpix.demo.core.Messages.Device;

/** The phone that this runs on. */
final class PhoneProbe implements DeviceProbe {
    private final PowerManager power;

    PhoneProbe(Context context) {
        power = (PowerManager) context.getSystemService(Context.POWER_SERVICE);
    }

    /** As the capture protocol has it; apps are not told the serial number. */
    static Device phone() {
        return new Device(Build.MANUFACTURER, Build.MODEL, Build.VERSION.RELEASE, null);
    }

    @Override
    public String device() {
        return Build.MANUFACTURER + " " + Build.MODEL;
    }

    @Override
    public String soc() {
        return Compat.soc();
    }

    @Override
    public String os() {
        return "Android " + Build.VERSION.RELEASE + " (API " + Build.VERSION.SDK_INT + ")";
    }

    @Override
    public long pssBytes() {
        return 1024 * Debug.getPss();
    }

    @Override
    public String thermal() {
        return Compat.thermal(power);
    }
}
