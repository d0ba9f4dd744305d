package org.dualpix.demo.core;

import java.util.Arrays;

/**
 * A signed map as colours to lay over the preview: red in front of the focus plane, blue behind it, as the host's
 * pictures have it, and clear where it is 0.
 */
public final class Overlay {
    private static final double LIMIT_PERCENT = 99;
    private static final int MOST_OPAQUE = 200;

    private Overlay() {}

    /** The value at which the colour is full: the 99th percentile of the absolute values; at least {@code least}. */
    public static double limit(float[] values, double least) {
        double[] sizes = new double[values.length];
        int count = 0;
        for (float value : values) {
            if (Math.abs(value) < Float.POSITIVE_INFINITY) {
                sizes[count++] = Math.abs(value);
            }
        }
        return count == 0 ? least
                : Math.max(least, BenchStats.percentile(Arrays.copyOf(sizes, count), LIMIT_PERCENT));
    }

    /** ARGB of each value; what is not finite stays clear. */
    public static void colours(float[] values, double limit, int[] argb) {
        for (int i = 0; i < values.length; i++) {
            double share = Math.max(-1, Math.min(1, values[i] / limit));
            int alpha = (int) Math.round(MOST_OPAQUE * Math.abs(share));
            argb[i] = Double.isNaN(share) ? 0 : alpha << 24 | (share < 0 ? 0xb2182b : 0x2166ac);
        }
    }
}
