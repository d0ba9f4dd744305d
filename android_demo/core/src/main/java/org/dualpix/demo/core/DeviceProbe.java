package org.dualpix.demo.core;

/** What the device says of itself while a benchmark runs. */
public interface DeviceProbe {
    String device();

    /** The chip, or null where it is not known. */
    String soc();

    String os();

    /** Proportional set size of this process in bytes. */
    long pssBytes();

    /** Android's word for the heat, such as {@code none} or {@code severe}; null where it does not say. */
    String thermal();

    /** Seconds that only run forward. */
    default double seconds() {
        return System.nanoTime() / 1e9;
    }
}
