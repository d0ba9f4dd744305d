package org.dualpix.demo.core;

import java.util.Arrays;
import java.util.Locale;

/**
 * A map as colours to lay over the picture, in the host's colours ({@code dualpix.capture.colour_map}).
 *
 * <p>Convention: disparity is red in front of the focus plane, blue behind it, and clear where it is 0. Depth is bright
 * near and dark far, its colours even in diopters; other maps are dark where small and bright where large. Where a
 * network says how sure it is, colours fade below {@link #SURE}, and the ends of the scale are those of what is sure.
 */
public final class Overlay {
    /** Confidence from which colours are shown in full, and a pixel counts as sure. */
    public static final float SURE = 0.5f;

    /** How values become colours. */
    public enum Scale { DIVERGING, DEPTH, SEQUENTIAL }

    /** Values at the ends of a scale; diopters where it is of depth. */
    public record Range(double low, double high) {}

    private static final double LIMIT_PERCENT = 99;
    private static final double OUTLIER_PERCENT = 0.5;
    private static final int MOST_OPAQUE = 200;
    private static final double NEAREST_M = 1e-3;
    private static final int[] VIRIDIS = { // every sixteenth of matplotlib's
        0x440154, 0x48186a, 0x472d7b, 0x424086, 0x3b528b, 0x33638d, 0x2c728e, 0x26828e, 0x21918c, 0x1fa088, 0x28ae80,
        0x3fbc73, 0x5ec962, 0x84d44b, 0xaddc30, 0xd8e219, 0xfde725,
    };

    private Overlay() {}

    /** The scale of an output, by its name and unit. */
    public static Scale scaleOf(TensorForm form) {
        if (form.name().equals(Outputs.DISPARITY) || form.unit().equals("px")) {
            return Scale.DIVERGING;
        }
        return form.name().equals(Outputs.DEPTH) || form.unit().equals("m") ? Scale.DEPTH : Scale.SEQUENTIAL;
    }

    /**
     * The ends of the scale: of a diverging one the 99th percentile of the sizes, at least {@code least}; of others the
     * middle 99 % of the values.
     *
     * @param confidence of each value, or null
     */
    public static Range range(float[] values, float[] confidence, Scale scale, double least) {
        double[] kept = new double[values.length];
        int count = fill(kept, values, confidence, scale);
        if (count == 0) {
            count = fill(kept, values, null, scale);
        }
        double[] known = Arrays.copyOf(kept, count);
        if (scale == Scale.DIVERGING) {
            double limit = count == 0 ? least : Math.max(least, BenchStats.percentile(known, LIMIT_PERCENT));
            return new Range(-limit, limit);
        }
        if (count == 0) {
            return new Range(0, 1);
        }
        double low = BenchStats.percentile(known, OUTLIER_PERCENT);
        double high = BenchStats.percentile(known, 100 - OUTLIER_PERCENT);
        double half = Math.max((high - low) / 2, 1e-6 * Math.max(1, Math.abs(high)));
        return new Range((low + high) / 2 - half, (low + high) / 2 + half);
    }

    /**
     * ARGB of each value; what is not finite stays clear.
     *
     * @param confidence of each value, or null
     * @param sureOnly whether what is not sure stays clear too, instead of fading
     */
    public static int[] colours(float[] values, float[] confidence, boolean sureOnly, Scale scale, Range range) {
        int[] argb = new int[values.length];
        for (int i = 0; i < values.length; i++) {
            double placed = placed(values[i], scale);
            double sure = confidence == null ? 1 : Math.max(0, Math.min(1, confidence[i] / SURE));
            boolean shown = !Double.isNaN(placed) && !(sureOnly && sure < 1);
            argb[i] = shown ? colour(placed, sure, scale, range) : 0;
        }
        return argb;
    }

    /** Share of values that are sure; null where nothing says so. */
    public static Double sureShare(float[] confidence) {
        if (confidence == null || confidence.length == 0) {
            return null;
        }
        int sure = 0;
        for (float value : confidence) {
            sure += value >= SURE ? 1 : 0;
        }
        return (double) sure / confidence.length;
    }

    /** The ends of a scale for people: {@code +-3.2 px}, {@code 0.42 to 5.1 m}. */
    public static String said(Range range, Scale scale, String unit) {
        String after = unit.isEmpty() ? "" : " " + unit;
        if (scale == Scale.DIVERGING) {
            return String.format(Locale.ROOT, "\u00b1%.1f%s", range.high(), after);
        }
        double first = scale == Scale.DEPTH ? ThinLens.distanceM(range.high()) : range.low();
        double last = scale == Scale.DEPTH ? ThinLens.distanceM(range.low()) : range.high();
        return String.format(Locale.ROOT, "%.3g to %.3g%s", first, last, after);
    }

    private static int fill(double[] kept, float[] values, float[] confidence, Scale scale) {
        int count = 0;
        for (int i = 0; i < values.length; i++) {
            double placed = placed(values[i], scale);
            if (Math.abs(placed) < Double.POSITIVE_INFINITY && (confidence == null || confidence[i] >= SURE)) {
                kept[count++] = scale == Scale.DIVERGING ? Math.abs(placed) : placed;
            }
        }
        return count;
    }

    /** Where a value lies on its scale. */
    private static double placed(float value, Scale scale) {
        return scale == Scale.DEPTH ? 1 / Math.max(value, NEAREST_M) : value;
    }

    private static int colour(double placed, double sure, Scale scale, Range range) {
        if (scale == Scale.DIVERGING) {
            double share = Math.max(-1, Math.min(1, placed / range.high()));
            return (int) Math.round(MOST_OPAQUE * Math.abs(share) * sure) << 24 | (share < 0 ? 0xb2182b : 0x2166ac);
        }
        double at = Math.max(0, Math.min(1, (placed - range.low()) / (range.high() - range.low())));
        return (int) Math.round(MOST_OPAQUE * sure) << 24 | viridis(at);
    }

    private static int viridis(double at) {
        double place = at * (VIRIDIS.length - 1);
        int first = Math.min((int) place, VIRIDIS.length - 2);
        int colour = 0;
        for (int shift = 16; shift >= 0; shift -= 8) {
            int from = VIRIDIS[first] >> shift & 0xff;
            int to = VIRIDIS[first + 1] >> shift & 0xff;
            colour |= (int) Math.round(from + (to - from) * (place - first)) << shift;
        }
        return colour;
    }
}
