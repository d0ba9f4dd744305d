package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.dualpix.demo.core.Messages.FrameDone;
import org.dualpix.demo.core.Messages.Quality;
import org.dualpix.demo.core.Messages.Stack;
import org.dualpix.demo.core.Preprocess.Picture;
import org.dualpix.demo.core.Preprocess.Region;

/**
 * Depth of a focus stack that a session took, by a network of the task {@code focus_stack}; the session's frames stay.
 *
 * <p>Convention: frames go farthest first, brought to the light of the farthest and aligned to the one that shows least
 * of the scene; of each the largest part about the middle is taken that has the shape of the network's pictures. Focus
 * is in diopters as the phone reports it for each frame, at least {@link #FARTHEST_D}.
 */
public final class StackDepth {
    public static final String RESULT = "depth.json";
    public static final int FORMAT = 1;
    /** Focus at infinity, for a network: {@code 1 / FARTHEST_M} of the host. */
    public static final double FARTHEST_D = 1e-4;

    private static final String FULL = "depth_m.full.bin";
    private static final String FRAMES = "frames";
    private static final String FOCUS = "focus_diopters";
    private static final String WIDTH = "width_per_focal";
    private static final String BLUR = "blur_px_per_diopter";
    private static final int SENSOR_PIXELS = 2;
    private static final double SAME_FOCUS_D = 1e-9;
    private static final double NEAREST_M = 1e-3;
    private static final double MM_PER_M = 1e3;
    /** Of 1 - f / s: where a lens is extended to twenty times its length, as on the host. */
    private static final double LEAST_LEFT = 0.05;
    private static final int MAX_STACK_BYTES = 8 << 20;

    private final File folder;
    private final Network network;
    private final InferenceEngine engine;

    /** Of the session in {@code folder}, which is complete. */
    public StackDepth(File folder, Network network, InferenceEngine engine) {
        this.folder = folder;
        this.network = network;
        this.engine = engine;
    }

    /**
     * What was found.
     *
     * @param frames in the order in which the network saw them
     * @param light of the reference frame in the network's size, which is what the outputs lie over
     * @param gain by which the network's pictures are encoded
     * @param part of each frame that was taken, in colour pixels: half of the sensor's
     * @param metric whether the phone's focus distances are worth metres
     */
    public record Found(
            Network network, Outputs outputs, List<FrameDone> frames, double[] gains, Alignment alignment,
            Picture light, double gain, Region part, boolean metric, List<String> notes, double runS) {
        /** What the screen shows. */
        public Shown shown(boolean sureOnly) {
            return Shown.of(outputs, gain, sureOnly);
        }

        /** The reference frame, as ARGB for the screen. */
        public int[] picture() {
            return Preprocess.argbOfEncoded(Preprocess.imageInput(light, 3).values(), Preprocess.gain(light.mean()));
        }

        /** As it stands in {@code depth.json}, but for the outputs' files. */
        Map<String, Object> toJson() {
            List<Object> listed = new ArrayList<>();
            for (int i = 0; i < frames.size(); i++) {
                Affine map = alignment.maps()[i];
                double rho = alignment.correlation()[i];
                listed.add(Json.object("file", frames.get(i).file(), "diopters", frames.get(i).diopters(), "gain",
                        gains[i], "matrix", Arrays.asList(map.a(), map.b(), map.tx(), map.c(), map.d(),
                                map.ty()),
                        "correlation", Double.isNaN(rho) ? null : rho, "trusted", alignment.trusted()[i]));
            }
            return Json.object("model", Json.object("file", network.file().getName(), "sha256", network.sha256(),
                    "recipe", network.recipe()), "metric", metric, "frames", listed, "reference",
                    alignment.reference(), "beta", alignment.beta(), "linear", alignment.linear(),
                    "part", Json.object("left", part.left(), "top", part.top(), "width", part.width(), "height",
                            part.height()),
                    "run_s", runS, "notes", notes);
        }
    }

    /**
     * Checks that a network takes what a stack has.
     *
     * @throws ProtocolException it takes none, or something else besides
     */
    public static void check(Network network) {
        TensorForm size = network.picture();
        if (!network.takesStacks()) {
            throw new ProtocolException("'" + network.recipe() + "' takes no focus stack",
                    "a network whose pictures are per frame");
        }
        for (TensorForm form : network.inputs()) {
            boolean known = form.kind() == TensorForm.Kind.MASK
                    || form.type() == FloatTensor.Type.FLOAT32 && (isFrames(form) || isFocus(form) || isWidth(form)
                    || isBlur(form));
            if (!known) {
                throw new ProtocolException("'" + network.recipe() + "' takes the input " + form.said(),
                        "inputs that a stack has: frames (1, N, 3, " + size.height() + ", " + size.width()
                                + "), focus_diopters (1, N), width_per_focal (1), blur_px_per_diopter (1, N) and masks,"
                                + " in float32");
            }
        }
    }

    private static boolean isFrames(TensorForm form) {
        return form.name().equals(FRAMES) && form.isSpatial() && form.perFrame() && form.shape().length == 5
                && form.shape()[0] == 1 && form.channels() == 3;
    }

    private static boolean isFocus(TensorForm form) {
        return form.name().equals(FOCUS) && isOfEachFrame(form);
    }

    private static boolean isBlur(TensorForm form) {
        return form.name().equals(BLUR) && isOfEachFrame(form);
    }

    private static boolean isOfEachFrame(TensorForm form) {
        return form.shape().length == 2 && form.shape()[0] == 1 && form.perFrame();
    }

    private static boolean isWidth(TensorForm form) {
        return form.name().equals(WIDTH) && form.shape().length == 1 && form.shape()[0] == 1 && !form.perFrame();
    }

    /**
     * A plan of a stack for a network, even in diopters from infinity.
     *
     * @param nearestD the nearest focus that is wanted, or 0 for all that the lens reaches
     */
    public static Messages.Plan plan(String session, Network network, double nearestD, double reachD) {
        check(network);
        double[] stops = FocusPlan.evenDiopters(0, nearestD > 0 ? Math.min(nearestD, reachD) : reachD,
                network.frames());
        return FocusPlan.plan(session, stops, null, 0);
    }

    /** Whether the session in a folder has taken all of its frames. */
    public static boolean isTaken(File folder) {
        return new File(folder, Messages.STACK).isFile();
    }

    /**
     * The network for stacks in {@code models}.
     *
     * @param recipe which one, or null for the first
     * @throws IOException there is no manifest that can be read, or no such network
     */
    public static Network network(File models, String recipe) throws IOException {
        for (Network network : ModelFolder.read(models)) {
            if (network.takesStacks() && (recipe == null || recipe.equals(network.recipe()))) {
                return network;
            }
        }
        throw new IOException("no network for focus stacks" + (recipe == null ? "" : " of recipe '" + recipe + "'")
                + " in '" + models.getName() + "'; push what 'dualpix export' made of one");
    }

    /**
     * Finds the depth by the first network for stacks in {@code models}; otherwise as {@link #run}.
     *
     * @throws IOException as {@link #run}, or there is no such network
     */
    public static Found run(File folder, File models, InferenceEngine engine, String app, int threads)
            throws IOException {
        Network network;
        try {
            network = network(models, null);
        } catch (IOException | ProtocolException error) {
            Map<String, Object> result = begun(folder, app);
            result.put("error", error.getMessage());
            Folders.write(new File(folder, RESULT), Json.write(result));
            throw error;
        }
        return new StackDepth(folder, network, engine).run(app, threads);
    }

    private static Map<String, Object> begun(File folder, String app) {
        return Json.object("format", FORMAT, "created", Clock.SYSTEM.utc(), "session", folder.getName(), "app", app);
    }

    /**
     * Finds the depth, and writes {@code depth.json} whatever happens, with the outputs as raw float32 beside it.
     *
     * @throws IOException no depth can be found, or nothing can be written
     */
    public Found run(String app, int threads) throws IOException {
        Map<String, Object> result = begun(folder, app);
        String error = null;
        try {
            Found found = find(threads);
            result.putAll(found.toJson());
            result.put("backends", new ArrayList<>(engine.backends()));
            result.put("runtime", engine.runtime());
            result.put("outputs", found.outputs().write(folder, ""));
            result.put("full", full(found));
            result.put("said", found.shown(false).said(found.metric()));
            return found;
        } catch (IOException | RuntimeException | LinkageError | OutOfMemoryError fault) {
            error = fault.getMessage() == null ? fault.toString() : fault.getMessage();
            throw fault instanceof IOException io ? io : new IOException(error, fault);
        } finally {
            result.put("error", error);
            Folders.write(new File(folder, RESULT), Json.write(result));
        }
    }

    private Found find(int threads) throws IOException {
        check(network);
        Stack stack = Messages.parseStack(Folders.read(new File(folder, Messages.STACK), MAX_STACK_BYTES));
        List<FrameDone> frames = ordered(stack);
        int width = network.picture().width();
        int height = network.picture().height();
        List<StackFrame> read = new ArrayList<>();
        Region part = null;
        for (FrameDone frame : frames) {
            Dng dng = Dng.open(checked(frame));
            Region own = Region.centred(dng.width(), dng.height(), width, height);
            if (part != null && !part.equals(own)) {
                throw new IOException("'" + frame.file() + "' has another size than the frames before");
            }
            part = own;
            read.add(StackFrame.read(dng, part, width, height, stated(frame)));
        }
        double[] gains = new double[read.size()];
        float[][] roots = new float[read.size()][];
        for (int i = 0; i < gains.length; i++) {
            gains[i] = read.get(0).gainOf(read.get(i));
            roots[i] = StackFrame.roots(read.get(i).light(gains[i]));
        }
        double[] focusD = frames.stream().mapToDouble(FrameDone::diopters).toArray();
        Alignment alignment = Alignment.of(roots, focusD, width, height);
        List<Picture> aligned = new ArrayList<>();
        for (int i = 0; i < gains.length; i++) {
            aligned.add(Alignment.warped(read.get(i).light(gains[i]), alignment.maps()[i]));
        }
        engine.load(network.checkedFile(), threads);
        Messages.PhoneCamera camera = stack.camera();
        double pitchUm = SENSOR_PIXELS * camera.pixelPitchUm() * part.width() / width;
        double[] fNumbers = frames.stream().mapToDouble(FrameDone::fNumber).toArray();
        List<FloatTensor> inputs = inputs(aligned, focusD, widthInput(part, camera.pixelPitchUm(),
                camera.focalLengthMm()), blurInput(focusD, fNumbers, camera.focalLengthMm(), pitchUm));
        long start = System.nanoTime();
        Outputs outputs = network.outputs(engine.run(inputs));
        double runS = (System.nanoTime() - start) / 1e9;
        return new Found(network, outputs, frames, gains, alignment, aligned.get(alignment.reference()),
                StackFrame.gain(aligned), part, stack.camera().calibration() != Quality.UNCALIBRATED,
                notes(stack, frames, alignment), runS);
    }

    private List<FloatTensor> inputs(List<Picture> aligned, double[] focusD, FloatTensor width, FloatTensor blur) {
        List<FloatTensor> out = new ArrayList<>();
        for (TensorForm form : network.inputs()) {
            if (form.kind() == TensorForm.Kind.MASK) {
                out.add(LiveInputs.ones(form));
                continue;
            }
            out.add(switch (form.name()) {
                case FRAMES -> StackFrame.inputs(aligned);
                case FOCUS -> focusInput(focusD);
                case WIDTH -> width;
                default -> blur;
            });
        }
        return out;
    }

    /**
     * Circle of confusion of what is a diopter beside the focus of each frame, (1, N), in px of what the network sees:
     * {@code dualpix.models.prepare.blur_px_per_diopter}.
     *
     * @param focusD focus of each frame, as the phone reports it
     * @param pitchUm of the network's pixels
     */
    static FloatTensor blurInput(double[] focusD, double[] fNumbers, double focalLengthMm, double pitchUm) {
        FloatTensor out = FloatTensor.zeros(1, focusD.length);
        for (int i = 0; i < focusD.length; i++) {
            double left = 1 - focalLengthMm / MM_PER_M * Math.max(focusD[i], FARTHEST_D);
            double blur = focalLengthMm * focalLengthMm / (fNumbers[i] * pitchUm * left); // mm^2 / um = m
            out.data().put(i, left >= LEAST_LEFT && blur > 0 && blur < Double.MAX_VALUE ? (float) blur : 0);
        }
        return out;
    }

    /**
     * Width of what the network sees over the focal length, (1): {@code dualpix.models.prepare.width_per_focal}.
     *
     * @param part in colour pixels, each two of the sensor's wide
     */
    static FloatTensor widthInput(Region part, double sensorPitchUm, double focalLengthMm) {
        FloatTensor out = FloatTensor.zeros(1);
        out.data().put(0, (float) (SENSOR_PIXELS * part.width() * sensorPitchUm / (1000 * focalLengthMm)));
        return out;
    }

    /** Focus as networks take it, (1, N). */
    static FloatTensor focusInput(double[] focusD) {
        FloatTensor out = FloatTensor.zeros(1, focusD.length);
        for (int i = 0; i < focusD.length; i++) {
            out.data().put(i, (float) Math.max(focusD[i], FARTHEST_D));
        }
        return out;
    }

    /**
     * Depth in m, brought to another size in diopters, in which surfaces are straight; as the host brings it back.
     *
     * @param depthM (height, width)
     * @return (outHeight, outWidth)
     */
    public static float[] enlarged(float[] depthM, int width, int height, int outWidth, int outHeight) {
        float[] out = new float[outWidth * outHeight];
        for (int i = 0; i < out.length; i++) {
            double x = Math.max(0, Math.min(width - 1, (i % outWidth + 0.5) * width / outWidth - 0.5));
            double y = Math.max(0, Math.min(height - 1, (i / outWidth + 0.5) * height / outHeight - 0.5));
            int left = Math.min((int) x, Math.max(0, width - 2));
            int top = Math.min((int) y, Math.max(0, height - 2));
            int right = Math.min(left + 1, width - 1);
            int bottom = Math.min(top + 1, height - 1);
            double above = mixed(depthM[top * width + left], depthM[top * width + right], x - left);
            double below = mixed(depthM[bottom * width + left], depthM[bottom * width + right], x - left);
            out[i] = (float) (1 / Math.max(above + (below - above) * (y - top), FARTHEST_D));
        }
        return out;
    }

    private static double mixed(float oneM, float otherM, double share) {
        double one = 1 / Math.max(oneM, NEAREST_M);
        return one + (1 / Math.max(otherM, NEAREST_M) - one) * share;
    }

    /** The depth in the size of the part that was taken of the frames, as a file; null where there is none. */
    private Map<String, Object> full(Found found) throws IOException {
        TensorForm form = found.outputs().shown();
        if (form == null || !form.name().equals(Outputs.DEPTH)) {
            return null;
        }
        int width = found.part().width();
        int height = found.part().height();
        float[] small = found.outputs().named(form.name()).values();
        float[] values = enlarged(small, form.width(), form.height(), width, height);
        FloatTensor.of(values, height, width).write(new File(folder, FULL));
        return Json.object("file", FULL, "shape", Arrays.asList(height, width), "unit", form.unit());
    }

    private List<FrameDone> ordered(Stack stack) throws IOException {
        if (!stack.complete() || stack.frames().size() != network.frames()) {
            throw new IOException("the session has " + stack.frames().size() + " frames"
                    + (stack.complete() ? "" : " and is not complete") + "; expected " + network.frames()
                    + ", which '" + network.recipe() + "' takes");
        }
        List<FrameDone> frames = new ArrayList<>(stack.frames());
        frames.sort(Comparator.comparingDouble(FrameDone::diopters));
        for (int i = 1; i < frames.size(); i++) {
            if (frames.get(i).diopters() - frames.get(i - 1).diopters() < SAME_FOCUS_D) {
                throw new IOException(String.format(Locale.ROOT, "'%s' and '%s' are both at %.4f D; expected a focus "
                        + "of its own for each frame", frames.get(i - 1).file(), frames.get(i).file(),
                        frames.get(i).diopters()));
            }
        }
        return frames;
    }

    private File checked(FrameDone frame) throws IOException {
        File file = Folders.child(folder, frame.file());
        if (!frame.file().endsWith(".dng")) {
            throw new IOException("'" + frame.file() + "' is no raw frame; expected a DNG");
        }
        if (!file.isFile() || !Folders.sha256(file).equals(frame.sha256())) {
            throw new IOException("'" + frame.file() + "' is not the frame that was taken");
        }
        return file;
    }

    private static double stated(FrameDone frame) {
        return (double) frame.exposureNs() * frame.iso() / (frame.fNumber() * frame.fNumber());
    }

    private static List<String> notes(Stack stack, List<FrameDone> frames, Alignment alignment) {
        List<String> notes = new ArrayList<>();
        if (stack.camera().calibration() == Quality.UNCALIBRATED) {
            notes.add("this phone does not calibrate its focus distances: depths are in order, but no metres");
        }
        for (int i = 0; i < frames.size(); i++) {
            if (!alignment.trusted()[i]) {
                notes.add("'" + frames.get(i).file() + "' could not be matched with the other frames");
            }
        }
        return notes;
    }
}
