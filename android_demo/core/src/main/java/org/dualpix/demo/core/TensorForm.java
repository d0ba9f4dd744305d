package org.dualpix.demo.core;

import java.util.Arrays;
import java.util.regex.Pattern;

/**
 * What a manifest says of an input or output of a network.
 *
 * @param kind of what it holds; where the manifest does not say, as its shape and name have it
 * @param perFrame whether there is one for each frame of a stack, along its second axis
 * @param unit as the manifest has it; empty where it says nothing
 */
public record TensorForm(
        String name, Kind kind, boolean perFrame, long[] shape, FloatTensor.Type type, String unit) {
    /** As tasks have them ({@code dualpix.models.tasks.task.Field}). */
    public enum Kind { PICTURE, MAP, MASK, SCALAR }

    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9_][A-Za-z0-9_.]{0,99}");
    private static final int MOST_SIZE = 1 << 20;
    private static final int SIZES_OF_PICTURES = 4;
    private static final String UNSTATED = "not stated";

    /**
     * Reads an entry of a manifest.
     *
     * @throws ProtocolException it is of another form, too large, of a type that Java's tensors do not have, or of a
     *     shape that what it holds cannot have
     */
    static TensorForm parse(Fields f) {
        String name = f.text("name", NAME);
        long[] shape = f.wholes("shape", 0, 8, 1, MOST_SIZE).stream().mapToLong(Long::longValue).toArray();
        if (!FloatTensor.fits(shape)) {
            throw f.error("shape", "at most " + FloatTensor.MAX_BYTES + " bytes of values");
        }
        Kind kind = f.optional("kind", key -> f.oneOf(key, Kind.values()));
        Boolean perFrame = f.optional("per_frame", f::flag);
        String unit = f.optional("unit", f::text);
        TensorForm form = new TensorForm(name, kind == null ? guessed(name, shape) : kind,
                perFrame == null ? shape.length == 5 || shape.length == 2 : perFrame, shape,
                f.oneOf("dtype", FloatTensor.Type.values()), unit == null || unit.equals(UNSTATED) ? "" : unit);
        if (kind != null && !form.isWhole()) {
            throw f.error("shape", form.expectedSizes());
        }
        return form;
    }

    /** Number of frames, or 1. */
    public int frames() {
        return perFrame && shape.length > 1 ? (int) shape[1] : 1;
    }

    /** Whether it has rows and columns. */
    public boolean isSpatial() {
        return kind != Kind.SCALAR && shape.length >= SIZES_OF_PICTURES;
    }

    /** Of what has rows and columns. */
    public int channels() {
        return (int) shape[shape.length - 3];
    }

    public int height() {
        return (int) shape[shape.length - 2];
    }

    public int width() {
        return (int) shape[shape.length - 1];
    }

    /** Whether it is one value for each pixel: (1, 1, H, W). */
    public boolean isMap() {
        return isSpatial() && !perFrame && shape.length == SIZES_OF_PICTURES && shape[0] == 1 && channels() == 1;
    }

    /** Name and shape for people: {@code 'confidence' (1, 1, 64, 96)}. */
    public String said() {
        return "'" + name + "' " + said(shape);
    }

    static String said(long[] shape) {
        String list = Arrays.toString(shape);
        return "(" + list.substring(1, list.length() - 1) + ")";
    }

    private boolean isWhole() {
        int sizes = kind == Kind.SCALAR ? 1 : SIZES_OF_PICTURES;
        int axes = sizes + (perFrame ? 1 : 0);
        return (shape.length == axes || kind == Kind.SCALAR && !perFrame && shape.length == 0)
                && (shape.length == 0 || shape[0] == 1);
    }

    private String expectedSizes() {
        String what = Messages.word(kind) + (perFrame ? " per frame" : "");
        String frames = perFrame ? ", N" : "";
        return "for a " + what + (kind == Kind.SCALAR ? ": [1" + frames + "]" : ": [1" + frames + ", C, H, W]");
    }

    private static Kind guessed(String name, long[] shape) {
        if (shape.length < SIZES_OF_PICTURES) {
            return Kind.SCALAR;
        }
        return name.endsWith("mask") || name.equals("known") || name.equals("valid") ? Kind.MASK : Kind.PICTURE;
    }
}
