package org.dualpix.demo.core;

import java.util.Arrays;
import org.dualpix.demo.core.Preprocess.Picture;

/**
 * Focus breathing and the shake of a hand between the frames of a stack, as {@code dualpix.capture.stack.align} finds
 * them.
 *
 * <p>Convention: the map of a frame takes a point of the <em>reference</em> to where it is seen <em>in the frame</em>:
 * {@code scale R (p - c) + c + t} with {@code scale = 1 + beta (D - D0)}. The reference is the frame that shows least
 * of the scene. Neighbours are matched outwards from the middle frame; one beta is fitted to the scales of all that
 * match.
 *
 * @param maps of each frame
 * @param correlation of each with its neighbour; NaN where nothing was found
 * @param trusted false: too little matched; the frame has the scale of the line and nothing else
 * @param beta change of scale per diopter, relative to the reference
 * @param linear whether the scales follow the line; else each frame keeps its own
 */
public record Alignment(
        Affine[] maps, int reference, double[] correlation, boolean[] trusted, double beta, boolean linear) {
    static final double MIN_CORRELATION = 0.6;
    private static final double MAX_SCALE = 0.25;
    private static final double MAX_STRETCH = 0.01;
    private static final double LINEAR_PX = 0.25;
    private static final int MIN_SIDE_PX = 32;
    private static final double CUBIC = -0.75;

    /**
     * Of frames of equal exposure.
     *
     * @param roots square roots of the grey light of each, (height, width): in them noise is even
     * @param diopters of the focus of each
     * @throws IllegalArgumentException fewer than two frames, or smaller than 32 pixels
     */
    public static Alignment of(float[][] roots, double[] diopters, int width, int height) {
        int count = roots.length;
        if (count < 2 || Math.min(width, height) < MIN_SIDE_PX) {
            throw new IllegalArgumentException(count + " frames of " + width + " x " + height
                    + "; expected two or more of at least " + MIN_SIDE_PX + " pixels to align");
        }
        int middle = middle(diopters);
        Affine[] found = new Affine[count];
        double[] correlation = new double[count];
        boolean[] trusted = new boolean[count];
        found[middle] = Affine.IDENTITY;
        correlation[middle] = 1;
        trusted[middle] = true;
        for (int step = -1; step <= 1; step += 2) {
            int anchor = middle;
            for (int i = middle + step; i >= 0 && i < count; i += step) {
                Ecc.Match match = Ecc.match(roots[anchor], roots[i], width, height);
                found[i] = match.map().after(found[anchor]);
                correlation[i] = match.correlation();
                trusted[i] = trusted(match);
                anchor = trusted[i] ? i : anchor;
            }
        }
        double[] away = Arrays.stream(diopters).map(d -> d - diopters[middle]).toArray();
        double radius = radiusPx(width, height);
        double slope = slope(found, trusted, away, radius);
        boolean linear = follows(found, trusted, away, slope, radius);
        Affine[] maps = new Affine[count];
        int reference = 0;
        for (int i = 0; i < count; i++) {
            double scale = 1 + slope * away[i];
            maps[i] = trusted[i] ? found[i].similarity(width, height, linear ? scale : Double.NaN)
                    : Affine.scaling(scale, width, height);
            reference = maps[i].scale() > maps[reference].scale() ? i : reference;
        }
        double beta = slope / (1 + slope * away[reference]);
        Affine back = maps[reference].inverse();
        for (int i = 0; i < count; i++) {
            maps[i] = maps[i].after(back);
        }
        return new Alignment(maps, reference, correlation, trusted, beta, linear);
    }

    /** A frame as the reference would show it; the border is repeated where the frame does not reach. */
    public static Picture warped(Picture frame, Affine map) {
        int width = frame.width();
        int height = frame.height();
        float[] out = new float[frame.values().length];
        double[] across = new double[4];
        double[] down = new double[4];
        for (int i = 0; i < width * height; i++) {
            double x = map.x(i % width, i / width);
            double y = map.y(i % width, i / width);
            int left = (int) Math.floor(x);
            int top = (int) Math.floor(y);
            cubic(x - left, across);
            cubic(y - top, down);
            for (int c = 0; c < frame.channels(); c++) {
                double sum = 0;
                for (int k = 0; k < 16; k++) {
                    int row = Math.max(0, Math.min(height - 1, top - 1 + k / 4));
                    int column = Math.max(0, Math.min(width - 1, left - 1 + k % 4));
                    sum += down[k / 4] * across[k % 4] * frame.values()[(c * height + row) * width + column];
                }
                out[c * width * height + i] = (float) sum;
            }
        }
        return new Picture(out, frame.channels(), height, width);
    }

    /** Weights of four neighbours, by Keys' cubic with the slope that OpenCV has. */
    private static void cubic(double share, double[] weights) {
        double x = share + 1;
        weights[0] = ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC;
        x = share;
        weights[1] = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
        x = 1 - share;
        weights[2] = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
        weights[3] = 1 - weights[0] - weights[1] - weights[2];
    }

    private static int middle(double[] diopters) {
        double mean = Arrays.stream(diopters).average().orElse(0);
        int middle = 0;
        for (int i = 1; i < diopters.length; i++) {
            middle = Math.abs(diopters[i] - mean) < Math.abs(diopters[middle] - mean) ? i : middle;
        }
        return middle;
    }

    /** Whether this is breathing and motion, or nonsense. */
    private static boolean trusted(Ecc.Match match) {
        Affine map = match.map();
        return match.correlation() >= MIN_CORRELATION && map.isFinite() && map.stretch() < MAX_STRETCH
                && Math.abs(Math.log(map.scale())) < MAX_SCALE;
    }

    /** beta relative to the middle frame: a weighted median of slopes, then least squares of those close to it. */
    private static double slope(Affine[] found, boolean[] trusted, double[] away, double radius) {
        int[] usable = usable(trusted, away);
        if (usable.length == 0) {
            return 0;
        }
        Integer[] order = Arrays.stream(usable).boxed().toArray(Integer[]::new);
        Arrays.sort(order, (i, k) -> Double.compare(off(found[i]) / away[i], off(found[k]) / away[k]));
        double half = Arrays.stream(usable).mapToDouble(i -> Math.abs(away[i])).sum() / 2;
        double slope = 0;
        double reached = 0;
        for (int i : order) {
            slope = off(found[i]) / away[i];
            reached += Math.abs(away[i]);
            if (reached >= half) {
                break;
            }
        }
        double above = 0;
        double below = 0;
        for (int i : usable) {
            if (Math.abs(off(found[i]) - slope * away[i]) * radius < 4 * LINEAR_PX) {
                above += off(found[i]) * away[i];
                below += away[i] * away[i];
            }
        }
        return below > 0 ? above / below : slope;
    }

    private static boolean follows(Affine[] found, boolean[] trusted, double[] away, double slope, double radius) {
        int[] usable = usable(trusted, away);
        double sum = 0;
        for (int i : usable) {
            double miss = (off(found[i]) - slope * away[i]) * radius;
            sum += miss * miss;
        }
        return usable.length == 0 || Math.sqrt(sum / usable.length) < LINEAR_PX;
    }

    private static int[] usable(boolean[] trusted, double[] away) {
        int[] out = new int[away.length];
        int count = 0;
        for (int i = 0; i < away.length; i++) {
            if (trusted[i] && Math.abs(away[i]) > 1e-9) {
                out[count++] = i;
            }
        }
        return Arrays.copyOf(out, count);
    }

    private static double off(Affine map) {
        return map.scale() - 1;
    }

    private static double radiusPx(int width, int height) {
        return Math.hypot(width, height) / Math.sqrt(12); // RMS distance of a pixel from the centre
    }
}
