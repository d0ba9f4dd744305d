package org.dualpix.demo.core;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.util.Arrays;

/**
 * Values in a direct buffer in native order, as ExecuTorch takes them, row-major.
 *
 * @param type what the network takes or gives them as; values of whole types are whole numbers here
 */
public record FloatTensor(FloatBuffer data, long[] shape, Type type) {
    /** Types that ExecuTorch's Java tensors have and networks of {@code dualpix export} use; it has none of bool. */
    public enum Type { FLOAT32, UINT8, INT32, INT64 }

    /** Largest tensor in bytes. */
    public static final long MAX_BYTES = 256L << 20;

    public FloatTensor(FloatBuffer data, long[] shape) {
        this(data, shape, Type.FLOAT32);
    }

    /** An empty one of this shape. */
    public static FloatTensor zeros(long... shape) {
        return new FloatTensor(bytes(shape).asFloatBuffer(), shape);
    }

    /**
     * These values, in a shape.
     *
     * @throws IllegalArgumentException the shape asks for another number of them
     */
    public static FloatTensor of(float[] values, long... shape) {
        if (values.length != count(shape)) {
            throw new IllegalArgumentException(values.length + " values for the shape " + Arrays.toString(shape));
        }
        FloatTensor out = zeros(shape);
        for (int i = 0; i < values.length; i++) {
            out.data.put(i, values[i]);
        }
        return out;
    }

    /** The same values, handed on as another type. */
    public FloatTensor as(Type wanted) {
        return new FloatTensor(data, shape, wanted);
    }

    /** All values, in order. */
    public float[] values() {
        float[] out = new float[data.capacity()];
        for (int i = 0; i < out.length; i++) {
            out[i] = data.get(i);
        }
        return out;
    }

    /**
     * Reads raw little-endian float32.
     *
     * @throws IOException the file does not hold just as many values as the shape asks for
     */
    public static FloatTensor read(File file, long... shape) throws IOException {
        ByteBuffer bytes = bytes(shape);
        if (file.length() != bytes.capacity()) {
            throw new IOException("'" + file.getName() + "' has " + file.length() + " bytes; expected "
                    + bytes.capacity());
        }
        try (FileInputStream in = new FileInputStream(file); FileChannel channel = in.getChannel()) {
            while (bytes.hasRemaining() && channel.read(bytes) >= 0) {
                continue;
            }
        }
        bytes.flip();
        FloatBuffer data = bytes.asFloatBuffer();
        if (bytes.order() == ByteOrder.LITTLE_ENDIAN) {
            return new FloatTensor(data, shape);
        }
        FloatTensor swapped = zeros(shape);
        swapped.data.put(bytes.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()).flip();
        return swapped;
    }

    /** Writes raw little-endian float32, whole or not at all. */
    public void write(File file) throws IOException {
        float[] values = values();
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        Folders.write(file, out -> out.write(bytes.array()));
    }

    /** Number of values of a shape; {@link IllegalArgumentException} where it is none, or too large. */
    public static int count(long... shape) {
        if (!fits(shape)) {
            throw new IllegalArgumentException("a tensor of more than " + MAX_BYTES + " bytes, or of none");
        }
        return (int) Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    }

    /** Whether {@link #count} takes a shape. */
    static boolean fits(long... shape) {
        long count = 1;
        for (long size : shape) {
            if (size < 1 || size > MAX_BYTES || (count *= size) * 4 > MAX_BYTES) {
                return false;
            }
        }
        return true;
    }

    private static ByteBuffer bytes(long[] shape) {
        return ByteBuffer.allocateDirect(4 * count(shape)).order(ByteOrder.nativeOrder());
    }
}
