package org.dualpix.demo.core;

import java.util.ArrayList;
import java.util.List;
import org.dualpix.demo.core.Preprocess.Picture;

/**
 * What the live view gives a network, by the names of the network's inputs.
 *
 * <p>{@code image} is what the camera sees; {@code left} and {@code right}, which Android does not hand out, are its
 * grey twice. A network with a single picture as input gets the image, whatever its name. A mask is 1 everywhere: all
 * that is seen counts.
 */
public final class LiveInputs {
    private static final String IMAGE = "image";
    private static final String LEFT = "left";
    private static final String RIGHT = "right";

    private LiveInputs() {}

    /** Whether a network sees the same view as both halves. */
    public static boolean repeatsHalves(Network network) {
        return network.inputs().stream().anyMatch(form -> form.name().equals(LEFT) || form.name().equals(RIGHT));
    }

    /**
     * Checks that there is something to give for every input.
     *
     * @throws ProtocolException there is none for one of them
     */
    public static void check(Network network) {
        TensorForm size = network.picture();
        if (network.takesStacks()) {
            throw new ProtocolException("'" + network.recipe() + "' takes " + network.frames()
                    + " frames of a focus stack", "another network for the live view; take a stack for this one");
        }
        for (TensorForm form : network.inputs()) {
            boolean spatial = form.isSpatial() && form.shape().length == size.shape().length && form.shape()[0] == 1;
            boolean known = form.kind() == TensorForm.Kind.MASK || known(network, form)
                    && (form.channels() == 1 || form.channels() == 3) && form.type() == FloatTensor.Type.FLOAT32;
            if (!spatial || !known) {
                throw new ProtocolException("'" + network.recipe() + "' takes the input " + form.said(),
                        "inputs that the live view has: image, left, right as float32 pictures, and masks");
            }
        }
    }

    /** The inputs of a network, of linear light in its size (3, H, W); {@link #check} has passed. */
    public static List<FloatTensor> of(Network network, Picture seen) {
        Picture grey = Preprocess.grey(seen);
        FloatTensor[] halves = Preprocess.networkInputs(grey, grey, seen);
        List<FloatTensor> out = new ArrayList<>();
        for (TensorForm form : network.inputs()) {
            if (form.kind() == TensorForm.Kind.MASK) {
                out.add(ones(form));
            } else if (form.channels() == 1 && (form.name().equals(LEFT) || form.name().equals(RIGHT))) {
                out.add(halves[1]);
            } else {
                out.add(Preprocess.imageInput(seen, form.channels()));
            }
        }
        return out;
    }

    /** 1 everywhere. */
    static FloatTensor ones(TensorForm form) {
        FloatTensor out = FloatTensor.zeros(form.shape()).as(form.type());
        for (int i = 0; i < out.data().capacity(); i++) {
            out.data().put(i, 1);
        }
        return out;
    }

    private static boolean known(Network network, TensorForm form) {
        long pictures = network.inputs().stream().filter(one -> one.kind() == TensorForm.Kind.PICTURE).count();
        boolean alone = pictures == 1 && form.kind() == TensorForm.Kind.PICTURE;
        boolean half = (form.name().equals(LEFT) || form.name().equals(RIGHT)) && form.channels() == 1;
        return alone || half || form.name().equals(IMAGE);
    }
}
