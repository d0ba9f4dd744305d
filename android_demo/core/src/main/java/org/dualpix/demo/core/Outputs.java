package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * What a run of a network gave, each output by its name; {@link Network#outputs} makes it, with everything checked.
 *
 * @param forms as the manifest has them
 * @param values one for each form
 */
public record Outputs(List<TensorForm> forms, List<FloatTensor> values) {
    public static final String DISPARITY = "disparity_px";
    public static final String DEPTH = "depth_m";
    public static final String CONFIDENCE = "confidence";
    public static final String SHARP = "sharp";

    /** The values of an output, or null where the network has none of that name. */
    public FloatTensor named(String name) {
        for (int i = 0; i < forms.size(); i++) {
            if (forms.get(i).name().equals(name)) {
                return values.get(i);
            }
        }
        return null;
    }

    /**
     * Writes every output as raw float32.
     *
     * @param prefix of the files' names
     * @return what says so, as JSON: a list of {name, file, shape, unit}
     */
    public List<Object> write(File folder, String prefix) throws IOException {
        List<Object> out = new ArrayList<>();
        for (int i = 0; i < forms.size(); i++) {
            TensorForm form = forms.get(i);
            String file = prefix + form.name() + ".bin";
            values.get(i).write(new File(folder, file));
            List<Object> shape = new ArrayList<>();
            for (long size : form.shape()) {
                shape.add(size);
            }
            out.add(Json.object("name", form.name(), "file", file, "shape", shape, "unit", form.unit()));
        }
        return out;
    }

    /** The first output that is one value for each pixel and no confidence: what is shown; null where there is none. */
    public TensorForm shown() {
        for (TensorForm form : forms) {
            if (form.isMap() && !form.name().equals(CONFIDENCE)) {
                return form;
            }
        }
        return null;
    }

    /** How sure each pixel of {@link #shown} is, 0..1; null where the network does not say, or of another size. */
    public float[] confidence() {
        TensorForm map = shown();
        TensorForm form = formOf(CONFIDENCE);
        boolean fits = map != null && form != null && form.isMap() && form.width() == map.width()
                && form.height() == map.height();
        return fits ? named(CONFIDENCE).values() : null;
    }

    /** Of the picture in focus everywhere (1, 3, H, W), encoded as the input image is; null where there is none. */
    public TensorForm sharpForm() {
        TensorForm form = formOf(SHARP);
        TensorForm map = shown();
        boolean picture = form != null && form.isSpatial() && form.shape().length == 4 && form.shape()[0] == 1
                && form.channels() == 3;
        boolean fits = map == null || picture && form.width() == map.width() && form.height() == map.height();
        return picture && fits ? form : null;
    }

    private TensorForm formOf(String name) {
        return forms.stream().filter(form -> form.name().equals(name)).findFirst().orElse(null);
    }
}
