package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A network that can be run here, as its manifest describes it.
 *
 * @param task that it is of ({@code dual_pixel}, {@code focus_stack}, ...); empty for a module of the user's own
 * @param inputs in the order in which the program takes them
 * @param outputs in the order in which it gives them
 */
public record Network(
        String task, String recipe, File file, String sha256, List<TensorForm> inputs, List<TensorForm> outputs) {
    private static final int MOST_NAMED = 16;

    /**
     * The program, if it is the one that was exported.
     *
     * @throws IOException it cannot be read, or is another one
     */
    public File checkedFile() throws IOException {
        String found = Folders.sha256(file);
        if (!found.equals(sha256)) {
            throw new IOException("'" + file.getName() + "' is not the file that was exported; push it again");
        }
        return file;
    }

    /** Whether it takes a picture for each frame of a focus stack. */
    public boolean takesStacks() {
        return inputs.stream().anyMatch(form -> form.isSpatial() && form.perFrame());
    }

    /** Whether it gives an output of a name. */
    public boolean gives(String name) {
        return outputs.stream().anyMatch(form -> form.name().equals(name));
    }

    /** Number of frames that it takes, or 1. */
    public int frames() {
        return inputs.stream().mapToInt(TensorForm::frames).max().orElse(1);
    }

    /**
     * The input that says how large pictures are.
     *
     * @throws ProtocolException it takes none, or some of another size than others, or of another number of frames
     */
    public TensorForm picture() {
        TensorForm first = null;
        for (TensorForm form : inputs) {
            if (form.perFrame() && form.frames() != frames()) {
                throw new ProtocolException("input " + form.said(), frames() + " frames as its other inputs have");
            }
            if (form.isSpatial() && first == null) {
                first = form;
            } else if (form.isSpatial() && (form.width() != first.width() || form.height() != first.height())) {
                throw new ProtocolException("input " + form.said(),
                        first.height() + " x " + first.width() + " pixels as those of '" + first.name() + "'");
            }
        }
        if (first == null) {
            throw new ProtocolException("'" + file.getName() + "' takes no picture", "a network of pictures");
        }
        return first;
    }

    /**
     * What a run gave, by name.
     *
     * @throws IOException an output is missing or too many, of another shape than the manifest says, or holds a value
     *     that is not finite
     */
    public Outputs outputs(List<FloatTensor> given) throws IOException {
        if (given.size() != outputs.size()) {
            String what = given.size() < outputs.size()
                    ? "'" + outputs.get(given.size()).name() + "' is missing" : "more than the manifest names";
            throw new IOException("'" + file.getName() + "' gives " + given.size() + " outputs: " + what + "; expected "
                    + saidOf(outputs));
        }
        for (int i = 0; i < given.size(); i++) {
            check(outputs.get(i), given.get(i));
        }
        return new Outputs(outputs, given);
    }

    private static void check(TensorForm form, FloatTensor found) throws IOException {
        if (!Arrays.equals(form.shape(), found.shape())) {
            throw new IOException("output '" + form.name() + "' is " + TensorForm.said(found.shape()) + "; expected "
                    + TensorForm.said(form.shape()) + " as the manifest says");
        }
        for (int i = 0; i < found.data().capacity(); i++) {
            if (!(Math.abs(found.data().get(i)) <= Float.MAX_VALUE)) {
                throw new IOException("output '" + form.name() + "' is " + found.data().get(i) + " at value " + i
                        + "; expected finite values");
            }
        }
    }

    static String saidOf(List<TensorForm> forms) {
        List<String> out = new ArrayList<>();
        for (TensorForm form : forms.subList(0, Math.min(forms.size(), MOST_NAMED))) {
            out.add(form.said());
        }
        return String.join(", ", out);
    }
}
