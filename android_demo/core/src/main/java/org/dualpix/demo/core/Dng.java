package org.dualpix.demo.core;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * A raw frame as Android's {@code DngCreator} writes it, and dualpix's own: one mosaic of 16 bits, uncompressed, in
 * strips; of several samples per pixel, as dual-pixel files have, the first.
 *
 * <p>Convention: cells of 2 x 2 samples, red, two greens and blue, red at their corner, are pixels (superpixels); light
 * is linear, in camera colour, black at 0, white level 1 but for what the black levels differ by, as {@code
 * dualpix.capture.stack.frames} has it: neither white balance nor shading is taken out. Nothing is turned: frames lie
 * as the sensor does. Coordinates count from the corner of the active area.
 */
public final class Dng {
    private static final int SUBIFDS = 0x014a;
    private static final int CFA = 32803;
    private static final int[] COLOURS = {0, 1, 1, 2};
    private static final int MOST_SIDE = 1 << 15;
    private static final int MOST_VALUES = 1 << 16;
    private static final int MOST_DIRECTORIES = 16;
    private static final int[] SIZES = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4};

    private final String name;
    private final ByteBuffer bytes;
    private final Map<Integer, double[]> tags = new HashMap<>();
    private final int samples;
    private final int fileWidth;
    private final int left;
    private final int top;
    private final int width;
    private final int height;
    private final double[] black;
    private final double white;
    private final int rowsPerStrip;
    private final long[] strips;

    private Dng(String name, ByteBuffer bytes) throws IOException {
        this.name = name;
        this.bytes = bytes;
        findMosaic();
        samples = (int) number(0x0115, 1, 1, 16);
        fileWidth = (int) number(0x0100, 0, 2, MOST_SIDE);
        int fileHeight = (int) number(0x0101, 0, 2, MOST_SIDE);
        need(0x0103, 1, "uncompressed samples");
        need(0x0102, 16, "samples of 16 bits");
        if (tags.containsKey(0xc618) || tags.containsKey(0xc61b) || tags.containsKey(0xc61c)) {
            throw bad("has a linearisation table or black levels of rows or columns", "a frame that this app took");
        }
        double[] area = tags.getOrDefault(0xc68d, new double[] {0, 0, fileHeight, fileWidth});
        if (area.length != 4 || !(area[0] >= 0 && area[1] >= 0 && area[2] <= fileHeight && area[3] <= fileWidth
                && area[2] - area[0] >= 3 && area[3] - area[1] >= 3)) {
            throw bad("has the active area " + Arrays.toString(area), "one within " + fileWidth + " x " + fileHeight);
        }
        int red = redOf(tags.get(0x828e));
        top = (int) area[0] + red / 2;
        left = (int) area[1] + red % 2;
        height = ((int) area[2] - top) / 2;
        width = ((int) area[3] - left) / 2;
        black = black(red);
        double[] whites = tags.get(0xc61d);
        white = whites == null || whites.length == 0 ? 65535 : whites[0];
        if (!(white <= 65535 && white > Arrays.stream(black).max().orElse(0))) {
            throw bad("has white level " + white + " and black levels " + Arrays.toString(black), "white above black");
        }
        rowsPerStrip = (int) number(0x0116, fileHeight, 1, 0xffffffffL);
        strips = strips(fileHeight, rowsPerStrip);
    }

    /**
     * Opens a file; its samples are mapped, not read.
     *
     * @throws IOException it is not there, damaged, or of another form
     */
    public static Dng open(File file) throws IOException {
        try (FileInputStream in = new FileInputStream(file); FileChannel channel = in.getChannel()) {
            if (channel.size() > Integer.MAX_VALUE) {
                throw new IOException("'" + file.getName() + "' has " + channel.size() + " bytes");
            }
            return new Dng(file.getName(), channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()));
        } catch (BufferUnderflowException | IndexOutOfBoundsException error) {
            throw new IOException("'" + file.getName() + "' is a damaged DNG", error);
        }
    }

    /** Of a frame in cells: half of the samples. */
    public int width() {
        return width;
    }

    public int height() {
        return height;
    }

    /** Takes the cells of a part, row by row. */
    interface Cells {
        void cell(int x, int y, double red, double green, double blue, boolean clipped);
    }

    /** Goes through the cells of a part, (0, 0) being its corner. */
    void each(Preprocess.Region part, Cells cells) {
        double scale = 1 / (white - Arrays.stream(black).average().orElse(0));
        for (int y = 0; y < part.height(); y++) {
            for (int x = 0; x < part.width(); x++) {
                double[] light = new double[3];
                boolean clipped = false;
                for (int k = 0; k < 4; k++) {
                    int sample = sample(left + 2 * (part.left() + x) + k % 2, top + 2 * (part.top() + y) + k / 2);
                    clipped |= sample >= white;
                    light[COLOURS[k]] += (sample - black[k]) * (COLOURS[k] == 1 ? scale / 2 : scale);
                }
                cells.cell(x, y, light[0], light[1], light[2], clipped);
            }
        }
    }

    private int sample(int x, int y) {
        long at = strips[y / rowsPerStrip] + 2L * samples * ((long) (y % rowsPerStrip) * fileWidth + x);
        return bytes.getShort((int) at) & 0xffff;
    }

    /** The directory of the mosaic: the first one, or one below it. */
    private void findMosaic() throws IOException {
        if (bytes.limit() < 8) {
            throw bad("has " + bytes.limit() + " bytes", "a DNG");
        }
        int order = bytes.getShort(0) & 0xffff;
        bytes.order(order == 0x4949 ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        if (order != 0x4949 && order != 0x4d4d || bytes.getShort(2) != 42) {
            throw bad("is no TIFF", "a DNG");
        }
        readDirectory(bytes.getInt(4) & 0xffffffffL);
        double[] below = tags.getOrDefault(SUBIFDS, new double[0]);
        for (int i = 0; !isMosaic() && i < Math.min(below.length, MOST_DIRECTORIES); i++) {
            tags.clear();
            readDirectory((long) below[i]);
        }
        if (!isMosaic()) {
            throw bad("holds no mosaic", "a raw frame");
        }
    }

    private boolean isMosaic() {
        double[] kind = tags.get(0x0106);
        return kind != null && kind.length == 1 && kind[0] == CFA;
    }

    private void readDirectory(long at) throws IOException {
        int place = place(at, 2);
        int count = bytes.getShort(place) & 0xffff;
        for (int i = 0; i < count; i++) {
            int entry = place(at + 2 + 12L * i, 12);
            int type = bytes.getShort(entry + 2) & 0xffff;
            long values = bytes.getInt(entry + 4) & 0xffffffffL;
            if (type < 1 || type >= SIZES.length || values > MOST_VALUES) {
                continue; // nothing that is needed here
            }
            int size = SIZES[type];
            long where = size * values <= 4 ? entry + 8 : bytes.getInt(entry + 8) & 0xffffffffL;
            int first = place(where, size * values);
            double[] read = new double[(int) values];
            for (int k = 0; k < read.length; k++) {
                read[k] = value(type, first + size * k);
            }
            tags.put(bytes.getShort(entry) & 0xffff, read);
        }
    }

    private double value(int type, int at) {
        switch (type) {
            case 3:
                return bytes.getShort(at) & 0xffff;
            case 4:
            case 13:
                return bytes.getInt(at) & 0xffffffffL;
            case 5:
                return (double) (bytes.getInt(at) & 0xffffffffL) / (bytes.getInt(at + 4) & 0xffffffffL);
            case 8:
                return bytes.getShort(at);
            case 9:
                return bytes.getInt(at);
            case 10:
                return (double) bytes.getInt(at) / bytes.getInt(at + 4);
            case 11:
                return bytes.getFloat(at);
            case 12:
                return bytes.getDouble(at);
            default:
                return bytes.get(at) & 0xff;
        }
    }

    /** Which of the four samples at the corner of the active area is red, with which cells begin. */
    private int redOf(double[] pattern) throws IOException {
        double[] repeat = tags.getOrDefault(0x828d, new double[] {2, 2});
        int red = -1;
        for (int k = 0; k < 4 && pattern != null && pattern.length == 4; k++) {
            boolean bayer = pattern[k] == 0 && pattern[k ^ 1] == 1 && pattern[k ^ 2] == 1 && pattern[k ^ 3] == 2;
            red = bayer ? k : red;
        }
        if (red < 0 || !Arrays.equals(repeat, new double[] {2, 2})) {
            throw bad("has the colours " + Arrays.toString(pattern), "a Bayer mosaic");
        }
        return red;
    }

    /** Black level of each sample of a cell, which begins with red. */
    private double[] black(int red) throws IOException {
        double[] found = tags.getOrDefault(0xc61a, new double[] {0});
        double[] repeat = tags.getOrDefault(0xc619, new double[] {1, 1});
        boolean cells = repeat.length == 2 && repeat[0] == 2 && repeat[1] == 2 && found.length == 4 * samples;
        boolean one = repeat.length == 2 && repeat[0] == 1 && repeat[1] == 1 && found.length == samples;
        if (!cells && !one || Arrays.stream(found).anyMatch(level -> !(level >= 0 && level < 65535))) {
            throw bad("has the black levels " + Arrays.toString(found), "one, or four of a cell");
        }
        double[] out = new double[4];
        for (int k = 0; k < 4; k++) {
            out[k] = found[cells ? (k ^ red) * samples : 0];
        }
        return out;
    }

    /** Where each strip begins; all of them are there. */
    private long[] strips(int fileHeight, long rows) throws IOException {
        double[] offsets = tags.get(0x0111);
        if (offsets == null || offsets.length != (fileHeight + rows - 1) / rows) {
            throw bad("lacks strips", "all " + fileHeight + " rows");
        }
        long[] out = new long[offsets.length];
        for (int i = 0; i < offsets.length; i++) {
            long held = Math.min(rows, fileHeight - i * rows);
            out[i] = place((long) offsets[i], 2L * samples * fileWidth * held);
        }
        return out;
    }

    private int place(long at, long size) throws IOException {
        if (at < 0 || at + size > bytes.limit()) {
            throw bad("is cut off: it has " + bytes.limit() + " bytes", "at least " + (at + size));
        }
        return (int) at;
    }

    private void need(int tag, int wanted, String what) throws IOException {
        for (double value : tags.getOrDefault(tag, new double[] {tag == 0x0103 ? 1 : 0})) {
            if (value != wanted) {
                throw bad("has " + (tag == 0x0103 ? "compression " : "bits per sample ") + (int) value, what);
            }
        }
    }

    private double number(int tag, double otherwise, double low, double high) {
        double[] found = tags.get(tag);
        double value = found == null || found.length == 0 ? otherwise : found[0];
        if (!(value >= low && value <= high)) {
            throw new IndexOutOfBoundsException("tag " + tag);
        }
        return value;
    }

    private IOException bad(String what, String expected) {
        return new IOException("'" + name + "' " + what + "; expected " + expected);
    }
}
