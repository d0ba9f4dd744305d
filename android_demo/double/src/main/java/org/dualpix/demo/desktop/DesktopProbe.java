package org.dualpix.demo.desktop;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.dualpix.demo.core.DeviceProbe;
import org.dualpix.demo.core.Messages.Device;

/** This process, as the phone that a script plays. */
record DesktopProbe(Device played) implements DeviceProbe {
    @Override
    public String device() {
        return played.make() + " " + played.model();
    }

    @Override
    public String soc() {
        return null;
    }

    @Override
    public String os() {
        return "Android " + played.android();
    }

    @Override
    public long pssBytes() {
        try {
            for (String line : Files.readAllLines(Path.of("/proc/self/smaps_rollup"))) {
                if (line.startsWith("Pss:")) {
                    return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
                }
            }
        } catch (IOException noSuchFile) {
            // not Linux: what the heap has is the best that is known
        }
        return Runtime.getRuntime().totalMemory();
    }

    @Override
    public String thermal() {
        return "none";
    }
}
