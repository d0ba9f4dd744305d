package org.dualpix.demo.core;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;

/**
 * From what a sensor gives, in buffers with strides, to what a network takes, as float32 planes (CHW).
 *
 * <p>Convention: as {@code dualpix.models.prepare}: linear light, black at 0; one gain brings the mean to
 * {@link #MEAN_LEVEL}, the same for both halves; then {@code sqrt(clip(gain x, 0, 4)) - 0.4}. Colours of YUV are full
 * range BT.601, as Android's YUV_420_888 has them, and made linear by the curve of sRGB. Pictures are reduced by the
 * mean over the pixels that fall into one of the result. Everything is computed in double and rounded to float once.
 */
public final class Preprocess {
    /** Mean linear level after the gain. */
    public static final double MEAN_LEVEL = 0.18;

    private static final double FLOOR = 1e-4;
    private static final double BLACK = 0.4;
    private static final double[] LINEAR = new double[256];

    static {
        for (int i = 0; i < 256; i++) {
            double v = i / 255.0;
            LINEAR[i] = v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4);
        }
    }

    /** One plane of an image: where its samples of a byte, or of two in native order of the sensor, lie. */
    public record Plane(ByteBuffer data, int rowStride, int pixelStride) {
        int byteAt(int x, int y) {
            return byteAt(x, y, 0);
        }

        int byteAt(int x, int y, int offset) {
            return data.get(y * rowStride + x * pixelStride + offset) & 0xff;
        }

        /** Little-endian whatever the buffer's order, as Android has it on all its processors. */
        int shortAt(int x, int y) {
            int at = y * rowStride + x * pixelStride;
            return (data.get(at) & 0xff) | (data.get(at + 1) & 0xff) << 8;
        }

        void check(int width, int height, int bytes) {
            long last = (long) (height - 1) * rowStride + (long) (width - 1) * pixelStride + bytes;
            if (rowStride < 0 || pixelStride < bytes || width < 1 || height < 1 || last > data.limit()) {
                throw new IllegalArgumentException("a plane of " + data.limit() + " bytes for " + width + " x " + height
                        + " samples, strides " + rowStride + " and " + pixelStride);
            }
        }
    }

    /** Linear picture, planes after each other. */
    public record Picture(float[] values, int channels, int height, int width) {
        /** Mean over all channels. */
        public double mean() {
            double sum = 0;
            for (float value : values) {
                sum += value;
            }
            return sum / values.length;
        }
    }

    /** A part of an image, in its pixels. */
    public record Region(int left, int top, int width, int height) {
        /** All of an image. */
        public static Region whole(int width, int height) {
            return new Region(0, 0, width, height);
        }

        /**
         * The largest part about the middle that has the shape of a result, so that nothing is squeezed; its corner is
         * even, so that a mosaic and halved colours keep their phase.
         */
        public static Region centred(int width, int height, int outWidth, int outHeight) {
            if (width < 1 || height < 1 || outWidth < 1 || outHeight < 1) {
                throw new IllegalArgumentException(
                        width + " x " + height + " in the shape of " + outWidth + " x " + outHeight);
            }
            long across = Math.min(width, Math.max(1, Math.round((double) height * outWidth / outHeight)));
            long down = Math.min(height, Math.max(1, Math.round((double) width * outHeight / outWidth)));
            return new Region((int) ((width - across) / 2) & ~1, (int) ((height - down) / 2) & ~1, (int) across,
                    (int) down);
        }
    }

    private Preprocess() {}

    /** Red, green or blue (0, 1, 2) of full-range BT.601, exact in integers. */
    public static int rgb(int channel, int y, int u, int v) {
        int cb = u - 128;
        int cr = v - 128;
        int sum;
        if (channel == 0) {
            sum = 91881 * cr;
        } else if (channel == 1) {
            sum = -22554 * cb - 46802 * cr;
        } else {
            sum = 116130 * cb;
        }
        return Math.max(0, Math.min(255, ((y << 16) + sum + 32768) >> 16));
    }

    /**
     * A YUV_420_888 image as linear light (3, outHeight, outWidth).
     *
     * @param width of the luminance, even, as is the height; not below those of the result
     */
    public static Picture fromYuv(Plane y, Plane u, Plane v, int width, int height, int outWidth, int outHeight) {
        return fromYuv(y, u, v, Region.whole(width, height), outWidth, outHeight);
    }

    /** A part of a YUV_420_888 image as linear light (3, outHeight, outWidth). */
    public static Picture fromYuv(Plane y, Plane u, Plane v, Region part, int outWidth, int outHeight) {
        checkYuv(y, u, v, part);
        return reduced(3, part, outWidth, outHeight, (channel, x, row) -> LINEAR[rgb(channel, y.byteAt(x, row),
                u.byteAt(x / 2, row / 2), v.byteAt(x / 2, row / 2))]);
    }

    private static void checkYuv(Plane y, Plane u, Plane v, Region part) {
        int right = part.left() + part.width();
        int bottom = part.top() + part.height();
        y.check(right, bottom, 1);
        u.check((right + 1) / 2, (bottom + 1) / 2, 1);
        v.check((right + 1) / 2, (bottom + 1) / 2, 1);
    }

    /** A part of a YUV_420_888 image as ARGB for the screen: of each block the pixel at its corner. */
    public static void toArgb(Plane y, Plane u, Plane v, Region part, int outWidth, int outHeight, int[] argb) {
        checkYuv(y, u, v, part);
        for (int i = 0; i < outWidth * outHeight; i++) {
            int row = part.top() + (int) ((long) (i / outWidth) * part.height() / outHeight);
            int x = part.left() + (int) ((long) (i % outWidth) * part.width() / outWidth);
            int luma = y.byteAt(x, row);
            int cb = u.byteAt(x / 2, row / 2);
            int cr = v.byteAt(x / 2, row / 2);
            argb[i] = 0xff000000 | rgb(0, luma, cb, cr) << 16 | rgb(1, luma, cb, cr) << 8 | rgb(2, luma, cb, cr);
        }
    }

    /** An image of bytes R, G, B and perhaps more beside each other, as linear light (3, outHeight, outWidth). */
    public static Picture fromRgb(Plane rgb, int width, int height, int outWidth, int outHeight) {
        rgb.check(width, height, 3);
        return fromRgb(rgb, Region.whole(width, height), outWidth, outHeight);
    }

    /** A part of such an image. */
    public static Picture fromRgb(Plane rgb, Region part, int outWidth, int outHeight) {
        rgb.check(part.left() + part.width(), part.top() + part.height(), 3);
        return reduced(3, part, outWidth, outHeight, (channel, x, row) -> LINEAR[rgb.byteAt(x, row, channel)]);
    }

    /** 16-bit samples, such as one half of a dual-pixel sensor, as linear light (1, outHeight, outWidth). */
    public static Picture fromRaw(
            Plane raw, int width, int height, double black, double white, int outWidth, int outHeight) {
        raw.check(width, height, 2);
        if (!(white > black)) {
            throw new IllegalArgumentException("white level " + white + ", black level " + black);
        }
        return reduced(1, Region.whole(width, height), outWidth, outHeight,
                (channel, x, row) -> (raw.shortAt(x, row) - black) / (white - black));
    }

    /** The gain that brings this mean to {@link #MEAN_LEVEL}. */
    public static double gain(double mean) {
        return MEAN_LEVEL / Math.max(mean, FLOOR);
    }

    /** What the network sees of a linear value. */
    public static double encode(double linear, double gain) {
        return Math.sqrt(Math.max(0, Math.min(4, linear * gain))) - BLACK;
    }

    /**
     * The three inputs of a dual-pixel network: image (1, 3, H, W), left and right (1, 1, H, W).
     *
     * @param combined of one channel, which is repeated, or three
     */
    public static FloatTensor[] networkInputs(Picture left, Picture right, Picture combined) {
        double halves = gain((left.mean() + right.mean()) / 2);
        return new FloatTensor[] {
            tensor(combined, 3, gain(combined.mean())), tensor(left, 1, halves), tensor(right, 1, halves)
        };
    }

    /** A picture as a network takes it, (1, channels, H, W), with a gain of its own; see {@link #networkInputs}. */
    public static FloatTensor imageInput(Picture picture, int channels) {
        return tensor(channels < picture.channels() ? grey(picture) : picture, channels, gain(picture.mean()));
    }

    /** Linear light of an encoded value: {@link #encode} undone, but for what it clipped. */
    public static double decode(double encoded, double gain) {
        double root = Math.max(0, encoded + BLACK);
        return root * root / gain;
    }

    /** A picture (3, H, W) that a network gave, encoded with a gain, as ARGB for the screen. */
    public static int[] argbOfEncoded(float[] encoded, double gain) {
        int pixels = encoded.length / 3;
        int[] argb = new int[pixels];
        for (int i = 0; i < pixels; i++) {
            int colour = 0xff;
            for (int c = 0; c < 3; c++) {
                colour = colour << 8 | srgb(decode(encoded[c * pixels + i], gain));
            }
            argb[i] = colour;
        }
        return argb;
    }

    /** The byte of linear light by the curve of sRGB. */
    static int srgb(double linear) {
        double v = Math.max(0, Math.min(1, linear));
        double shown = v <= 0.0031308 ? 12.92 * v : 1.055 * Math.pow(v, 1 / 2.4) - 0.055;
        return (int) Math.rint(255 * shown);
    }

    /** The mean of the channels, as a picture of one. */
    public static Picture grey(Picture colour) {
        int pixels = colour.height() * colour.width();
        float[] out = new float[pixels];
        for (int i = 0; i < pixels; i++) {
            double sum = 0;
            for (int c = 0; c < colour.channels(); c++) {
                sum += colour.values()[c * pixels + i];
            }
            out[i] = (float) (sum / colour.channels());
        }
        return new Picture(out, 1, colour.height(), colour.width());
    }

    private static FloatTensor tensor(Picture picture, int channels, double gain) {
        FloatTensor out = FloatTensor.zeros(1, channels, picture.height(), picture.width());
        FloatBuffer data = out.data();
        int pixels = picture.height() * picture.width();
        for (int i = 0; i < channels * pixels; i++) {
            data.put(i, (float) encode(picture.values()[i % (picture.channels() * pixels)], gain));
        }
        return out;
    }

    private interface Sample {
        double at(int channel, int x, int y);
    }

    private static Picture reduced(int channels, Region part, int outWidth, int outHeight, Sample sample) {
        if (outWidth < 1 || outHeight < 1 || outWidth > part.width() || outHeight > part.height()) {
            throw new IllegalArgumentException(
                    part.width() + " x " + part.height() + " cannot be reduced to " + outWidth + " x " + outHeight);
        }
        float[] out = new float[channels * outWidth * outHeight];
        int at = 0;
        for (int c = 0; c < channels; c++) {
            for (int y = 0; y < outHeight; y++) {
                int top = part.top() + (int) ((long) y * part.height() / outHeight);
                int bottom = part.top() + (int) ((long) (y + 1) * part.height() / outHeight);
                for (int x = 0; x < outWidth; x++) {
                    int left = part.left() + (int) ((long) x * part.width() / outWidth);
                    int right = part.left() + (int) ((long) (x + 1) * part.width() / outWidth);
                    out[at++] = (float) mean(sample, c, left, top, right, bottom);
                }
            }
        }
        return new Picture(out, channels, outHeight, outWidth);
    }

    private static double mean(Sample sample, int channel, int left, int top, int right, int bottom) {
        double sum = 0;
        for (int y = top; y < bottom; y++) {
            for (int x = left; x < right; x++) {
                sum += sample.at(channel, x, y);
            }
        }
        return sum / ((bottom - top) * (right - left));
    }
}
