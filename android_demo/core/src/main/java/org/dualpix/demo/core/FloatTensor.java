package org.dualpix.demo.core;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;

/** float32 values in a direct buffer in native order, as ExecuTorch takes them, row-major. */
public record FloatTensor(FloatBuffer data, long[] shape) {
    /** Largest tensor in bytes. */
    public static final long MAX_BYTES = 256L << 20;

    /** An empty one of this shape. */
    public static FloatTensor zeros(long... shape) {
        return new FloatTensor(bytes(shape).asFloatBuffer(), shape);
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

    /** Number of values of a shape; {@link IllegalArgumentException} where it is none, or too large. */
    public static int count(long... shape) {
        long count = 1;
        for (long size : shape) {
            if (size < 1 || size > MAX_BYTES || (count *= size) * 4 > MAX_BYTES) {
                throw new IllegalArgumentException("a tensor of more than " + MAX_BYTES + " bytes, or of none");
            }
        }
        return (int) count;
    }

    private static ByteBuffer bytes(long[] shape) {
        return ByteBuffer.allocateDirect(4 * count(shape)).order(ByteOrder.nativeOrder());
    }
}
