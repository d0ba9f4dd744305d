package org.dualpix.demo.core;

import java.util.Arrays;
import java.util.List;
import org.dualpix.demo.core.Preprocess.Picture;
import org.dualpix.demo.core.Preprocess.Region;

/**
 * A frame of a stack as light, in the size of a network: what {@code dualpix.capture.stack.load} makes of one.
 *
 * @param light linear (3, H, W)
 * @param tiles mean light of {@link #ROWS} x {@link #COLUMNS} tiles; NaN where more than 1 % of one clipped, or it is
 *     dark
 * @param stated exposure as set, relative: time x sensitivity / N^2
 */
public record StackFrame(Picture light, double[] tiles, double stated) {
    static final int ROWS = 6;
    static final int COLUMNS = 8;
    private static final double[] GREY = {0.25, 0.5, 0.25};
    private static final double MOST_CLIPPED = 0.01;
    private static final double DARK = 1e-4;

    /**
     * Reads a frame: the mean over the cells that fall into each pixel of the result.
     *
     * @throws IllegalArgumentException the part has fewer cells than the result, or than there are tiles
     */
    public static StackFrame read(Dng dng, Region part, int width, int height, double stated) {
        if (width > part.width() || height > part.height() || part.width() < COLUMNS || part.height() < ROWS) {
            throw new IllegalArgumentException("frames of " + part.width() + " x " + part.height()
                    + " colour pixels; expected at least " + width + " x " + height + ", which the network takes");
        }
        int pixels = width * height;
        int[] columnOf = placeOf(part.width(), width);
        int[] rowOf = placeOf(part.height(), height);
        int[] tileColumnOf = placeOf(part.width(), COLUMNS);
        int[] tileRowOf = placeOf(part.height(), ROWS);
        double[] sums = new double[3 * pixels];
        int[] counts = new int[pixels];
        double[] tiles = new double[ROWS * COLUMNS];
        int[] clipped = new int[tiles.length];
        int[] sizes = new int[tiles.length];
        dng.each(part, (x, y, red, green, blue, full) -> {
            int at = rowOf[y] * width + columnOf[x];
            sums[at] += red;
            sums[pixels + at] += green;
            sums[2 * pixels + at] += blue;
            counts[at]++;
            int tile = tileRowOf[y] * COLUMNS + tileColumnOf[x];
            tiles[tile] += GREY[0] * red + GREY[1] * green + GREY[2] * blue;
            clipped[tile] += full ? 1 : 0;
            sizes[tile]++;
        });
        float[] light = new float[3 * pixels];
        for (int i = 0; i < light.length; i++) {
            light[i] = (float) (sums[i] / counts[i % pixels]);
        }
        for (int i = 0; i < tiles.length; i++) {
            tiles[i] /= sizes[i];
        }
        double dark = DARK * Math.max(Arrays.stream(tiles).max().orElse(0), 1e-12);
        for (int i = 0; i < tiles.length; i++) {
            boolean bad = tiles[i] <= dark || clipped[i] > MOST_CLIPPED * sizes[i];
            tiles[i] = bad ? Double.NaN : tiles[i];
        }
        return new StackFrame(new Picture(light, 3, height, width), tiles, stated);
    }

    /** The factor that brings another frame to the light of this one: what is seen, or else what was set. */
    public double gainOf(StackFrame other) {
        double[] ratios = new double[tiles.length];
        int count = 0;
        for (int i = 0; i < tiles.length; i++) {
            double ratio = tiles[i] / other.tiles[i];
            if (Math.abs(ratio) < Double.POSITIVE_INFINITY) {
                ratios[count++] = ratio;
            }
        }
        if (count > 0) {
            return BenchStats.percentile(Arrays.copyOf(ratios, count), 50);
        }
        double set = stated / other.stated;
        return Math.abs(set) < Double.POSITIVE_INFINITY ? set : 1;
    }

    /** Light times a factor. */
    public Picture light(double gain) {
        float[] out = light.values().clone();
        for (int i = 0; i < out.length; i++) {
            out[i] *= (float) gain;
        }
        return new Picture(out, light.channels(), light.height(), light.width());
    }

    /** Square roots of the grey of a picture (3, H, W): what frames are matched by. */
    public static float[] roots(Picture light) {
        int pixels = light.height() * light.width();
        float[] out = new float[pixels];
        for (int i = 0; i < pixels; i++) {
            double grey = 0;
            for (int c = 0; c < 3; c++) {
                grey += GREY[c] * light.values()[c * pixels + i];
            }
            out[i] = (float) Math.sqrt(Math.max(0, grey));
        }
        return out;
    }

    /**
     * The frames of a stack as networks take them, (1, N, 3, H, W): one gain for all, as {@code
     * dualpix.models.prepare.stack_inputs}.
     */
    public static FloatTensor inputs(List<Picture> frames) {
        double gain = gain(frames);
        Picture first = frames.get(0);
        FloatTensor out = FloatTensor.zeros(1, frames.size(), 3, first.height(), first.width());
        int at = 0;
        for (Picture frame : frames) {
            for (float value : frame.values()) {
                out.data().put(at++, (float) Preprocess.encode(value, gain));
            }
        }
        return out;
    }

    /** The gain that brings the mean of a stack to {@link Preprocess#MEAN_LEVEL}. */
    public static double gain(List<Picture> frames) {
        return Preprocess.gain(frames.stream().mapToDouble(Picture::mean).average().orElse(0));
    }

    private static int[] placeOf(int size, int outSize) {
        int[] out = new int[size];
        for (int place = 0; place < outSize; place++) {
            int end = (int) ((long) (place + 1) * size / outSize);
            Arrays.fill(out, (int) ((long) place * size / outSize), end, place);
        }
        return out;
    }
}
