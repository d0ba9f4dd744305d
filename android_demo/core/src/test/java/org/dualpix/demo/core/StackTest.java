package org.dualpix.demo.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.dualpix.demo.core.Messages.FrameDone;
import org.dualpix.demo.core.Messages.LensState;
import org.dualpix.demo.core.Messages.PhoneCamera;
import org.dualpix.demo.core.Messages.Quality;
import org.dualpix.demo.core.Preprocess.Picture;
import org.dualpix.demo.core.Preprocess.Region;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Focus stacks: Java against what Python computed, and what is no stack. */
public class StackTest {
    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    private static Map<String, Object> golden(String key) throws IOException {
        return Golden.object(Golden.object(Golden.json("core-stack.json")).get(key));
    }

    private static float[] floats(Object list) {
        double[] values = Golden.numbers(list);
        float[] out = new float[values.length];
        for (int i = 0; i < out.length; i++) {
            out[i] = (float) values[i];
        }
        return out;
    }

    private static byte[] frame(int which) throws IOException {
        Map<String, Object> g = Golden.objects(golden("frames").get("files")).get(which);
        return Base64.getDecoder().decode((String) g.get("file"));
    }

    private File file(String name, byte[] content) throws IOException {
        File file = new File(temporary.getRoot(), name);
        Folders.write(file, out -> out.write(content));
        return file;
    }

    @Test
    public void rawFramesAreTheLightThatTheHostSees() throws IOException {
        double[] size = Golden.numbers(golden("frames").get("out"));
        List<StackFrame> frames = new ArrayList<>();
        for (Map<String, Object> g : Golden.objects(golden("frames").get("files"))) {
            String kind = (String) g.get("kind");
            Dng dng = Dng.open(file(kind + ".dng", frame(frames.size())));
            assertArrayEquals(kind, Golden.numbers(g.get("cells")), new double[] {dng.width(), dng.height()}, 0);
            StackFrame frame = StackFrame.read(dng, Region.whole(dng.width(), dng.height()), (int) size[0],
                    (int) size[1], 1);
            assertArrayEquals(kind, floats(g.get("light")), frame.light().values(), 2e-6f);
            List<?> tiles = (List<?>) g.get("tiles");
            int unknown = 0;
            for (int i = 0; i < tiles.size(); i++) {
                unknown += tiles.get(i) == null ? 1 : 0;
                assertEquals(kind + ", tile " + i, tiles.get(i) == null ? Double.NaN : Golden.number(tiles.get(i)),
                        frame.tiles()[i], 2e-6);
            }
            assertTrue("some are known, some are not", unknown > 0 && unknown < tiles.size());
            frames.add(frame);
        }
        double[] gains = Golden.numbers(golden("frames").get("gains"));
        for (int i = 0; i < gains.length; i++) {
            assertEquals(gains[i], frames.get(0).gainOf(frames.get(i)), 1e-5);
        }
        assertTrue("the exposures differ", gains[1] > 1.1 && gains[2] < 0.9);
    }

    @Test
    public void whereNothingIsSeenTheExposureAsSetCounts() {
        Picture black = new Picture(new float[12], 3, 2, 2);
        double[] dark = new double[48];
        Arrays.fill(dark, Double.NaN);
        assertEquals(4, new StackFrame(black, dark, 2).gainOf(new StackFrame(black, dark, 0.5)), 0);
        assertEquals(1, new StackFrame(black, dark, 2).gainOf(new StackFrame(black, dark, 0)), 0);
    }

    @Test
    public void filesThatAreNoFramesAreALine() throws IOException {
        byte[] good = frame(0);
        for (int length : new int[] {0, 7, 9, 100, 700, good.length - 1}) {
            IOException error = assertThrows("cut at " + length, IOException.class,
                    () -> Dng.open(file("cut.dng", Arrays.copyOf(good, length))));
            assertTrue(error.getMessage(), error.getMessage().startsWith("'cut.dng' "));
            assertFalse(error.getMessage(), error.getMessage().contains("\n"));
        }
        Map<Integer, Integer> tags = Map.of(0x0103, 7, 0x0102, 12, 0x0106, 2, 0x0100, 0, 0xc61d, 100);
        for (Map.Entry<Integer, Integer> tag : tags.entrySet()) {
            byte[] changed = good.clone();
            for (int at = 10; at < 400; at += 12) {
                if (((changed[at] & 0xff) | (changed[at + 1] & 0xff) << 8) == tag.getKey()) {
                    changed[at + 8] = (byte) (int) tag.getValue();
                    changed[at + 9] = 0;
                }
            }
            assertThrows("tag " + tag.getKey(), IOException.class, () -> Dng.open(file("changed.dng", changed)));
        }
        assertThrows(IOException.class, () -> Dng.open(new File(temporary.getRoot(), "none.dng")));
    }

    @Test
    public void networksSeeFramesAndFocusAsTheHostsDo() throws IOException {
        Map<String, Object> g = golden("inputs");
        List<Picture> frames = new ArrayList<>();
        for (Object linear : (List<?>) g.get("linear")) {
            frames.add(new Picture(floats(linear), 3, 4, 5));
        }
        FloatTensor seen = StackFrame.inputs(frames);
        assertArrayEquals(new long[] {1, 3, 3, 4, 5}, seen.shape());
        assertArrayEquals(floats(g.get("frames")), seen.values(), 2e-6f);
        FloatTensor focus = StackDepth.focusInput(Golden.numbers(g.get("diopters")));
        assertArrayEquals(new long[] {1, 3}, focus.shape());
        assertArrayEquals(floats(g.get("focus")), focus.values(), 1e-7f);
        FloatTensor width = StackDepth.widthInput(new Region(8, 6, 1900, 1425), 1.2, 6.9);
        assertArrayEquals(new long[] {1}, width.shape());
        assertArrayEquals(floats(g.get("width")), width.values(), 1e-6f);
        double[] fNumbers = {1.73, 1.73, 1.73};
        FloatTensor blur = StackDepth.blurInput(Golden.numbers(g.get("diopters")), fNumbers, 6.9, 2.4 * 1900 / 512);
        assertArrayEquals(new long[] {1, 3}, blur.shape());
        assertArrayEquals(floats(g.get("blur")), blur.values(), 1e-6f);
    }

    @Test
    public void blurOfNoLensIsNone() {
        double[] near = {0, 30};
        float[] none = {0, 0};
        assertArrayEquals(none, StackDepth.blurInput(near, new double[] {0, Double.NaN}, 6.9, 8).values(), 0);
        float[] blur = StackDepth.blurInput(near, new double[] {2, 2}, 40, 8).values();
        assertEquals(100.0, blur[0], 1e-2);
        assertEquals("a lens of 40 mm has no focus at 33 mm", 0, blur[1], 0);
    }

    @Test
    public void depthComesBackToTheFramesInDiopters() throws IOException {
        Map<String, Object> g = golden("enlarged");
        float[] expected = floats(g.get("full_m"));
        float[] full = StackDepth.enlarged(floats(g.get("depth_m")), 6, 4, 15, 11);
        for (int i = 0; i < expected.length; i++) {
            assertEquals("pixel " + i, 1, full[i] / expected[i], 1e-5);
        }
    }

    @Test
    public void picturesAreWarpedByOpenCvsCubic() throws IOException {
        Map<String, Object> g = golden("warp");
        Picture picture = new Picture(floats(g.get("picture")), 3, 6, 8);
        assertArrayEquals(floats(g.get("warped")), Alignment.warped(picture, affine(g.get("matrix"))).values(), 1e-6f);
        assertArrayEquals(picture.values(), Alignment.warped(picture, Affine.IDENTITY).values(), 0);
    }

    private static Affine affine(Object list) {
        double[] m = Golden.numbers(list);
        return new Affine(m[0], m[1], m[2], m[3], m[4], m[5]);
    }

    private static float[][] scene(Map<String, Object> g, int width, int height) {
        List<?> maps = (List<?>) g.get("maps");
        float[][] out = new float[maps.size()][width * height];
        for (int f = 0; f < out.length; f++) {
            Affine back = affine(maps.get(f)).inverse();
            for (int i = 0; i < width * height; i++) {
                double x = back.x(i % width, i / width);
                double y = back.y(i % width, i / width);
                double value = 0;
                for (Object wave : (List<?>) g.get("waves")) {
                    double[] w = Golden.numbers(wave);
                    value += w[0] * Math.cos(w[1] * x + w[2] * y + w[3]);
                }
                out[f][i] = (float) (0.5 + 0.02 * value);
            }
        }
        return out;
    }

    @Test
    public void framesAreAlignedAsTheHostAlignsThem() throws IOException {
        Map<String, Object> g = golden("alignment");
        double[] diopters = Golden.numbers(g.get("diopters"));
        Alignment found = Alignment.of(scene(g, 128, 96), diopters, 128, 96);
        assertEquals((int) Golden.number(g.get("reference")), found.reference());
        assertEquals(g.get("linear"), found.linear());
        assertEquals(Golden.number(g.get("beta")), found.beta(), 3e-4);
        for (int i = 0; i < diopters.length; i++) {
            assertTrue("frame " + i, found.trusted()[i]);
            double host = found.maps()[i].distancePx(affine(((List<?>) g.get("found")).get(i)), 128, 96);
            double truth = found.maps()[i].distancePx(affine(((List<?>) g.get("relative")).get(i)), 128, 96);
            assertTrue("frame " + i + " is " + host + " px from the host's", host < 0.05);
            assertTrue("frame " + i + " is " + truth + " px from the truth", truth < 0.05);
        }
    }

    @Test
    public void framesWithoutTextureStayWhereTheyAre() {
        float[][] flat = new float[3][40 * 32];
        for (float[] frame : flat) {
            Arrays.fill(frame, 0.5f);
        }
        Alignment found = Alignment.of(flat, new double[] {0, 1, 2}, 40, 32);
        assertFalse(found.trusted()[0] || found.trusted()[2]);
        for (Affine map : found.maps()) {
            assertEquals(0, map.distancePx(Affine.IDENTITY, 40, 32), 1e-12);
        }
        assertThrows(IllegalArgumentException.class, () -> Alignment.of(flat, new double[] {0, 1, 2}, 20, 64));
    }

    @Test
    public void mapsAreUndoneAndComposed() {
        Affine map = new Affine(1.01, -0.02, 3, 0.02, 1.01, -2);
        assertEquals(0, map.inverse().after(map).distancePx(Affine.IDENTITY, 64, 48), 1e-9);
        assertEquals(0, map.similarity(64, 48, Double.NaN).distancePx(map, 64, 48), 1e-9);
        assertEquals(1.5, map.similarity(64, 48, 1.5).scale(), 1e-9);
        assertEquals(0, map.stretch(), 1e-7);
        assertEquals(0.25, new Affine(1.25, 0, 0, 0, 1, 0).stretch(), 1e-9);
        Affine scaled = Affine.scaling(1.1, 64, 48);
        assertEquals("the centre stays", 31.5, scaled.x(31.5, 23.5), 1e-9);
        assertThrows(ArithmeticException.class, () -> new Affine(1, 1, 0, 1, 1, 0).inverse());
    }

    // --- sessions

    private static final PhoneCamera CAMERA = new PhoneCamera("0", Quality.CALIBRATED, 10, 6.9, 1.2,
            Arrays.asList(1.68), Arrays.asList(44L, 32L), Arrays.asList(1000L, 1_000_000_000L),
            Arrays.asList(50L, 3200L), true, 0.2);

    private static Network network(int frames, int height, int width) {
        FloatTensor.Type type = FloatTensor.Type.FLOAT32;
        long[] pictures = {1, frames, 3, height, width};
        long[] map = {1, 1, height, width};
        return new Network("focus_stack", "xnnpack-fp32", new File("net.pte"), "00", Arrays.asList(
                new TensorForm("frames", TensorForm.Kind.PICTURE, true, pictures, type, ""),
                new TensorForm("focus_diopters", TensorForm.Kind.SCALAR, true, new long[] {1, frames}, type, "1/m")),
                Arrays.asList(new TensorForm("depth_m", TensorForm.Kind.MAP, false, map, type, "m")));
    }

    private File session(boolean complete, double... diopters) throws IOException {
        File folder = temporary.newFolder();
        List<FrameDone> frames = new ArrayList<>();
        for (double d : diopters) {
            String name = Messages.frameFile(frames.size(), 0, "dng");
            Folders.Written written = Folders.write(new File(folder, name), out -> out.write(frame(0)));
            frames.add(new FrameDone("2026-11-21T16:05:02Z", frames.size(), 0, name, written.bytes(), written.sha256(),
                    d, LensState.STATIONARY, 100, 5, 8_000_000, 55, 1.68, 1000L + frames.size(), null));
        }
        Messages.Stack stack = new Messages.Stack("take-1", "1.0", new Messages.Device("a", "b", "16", null), CAMERA,
                frames, complete, Collections.emptyMap());
        Folders.write(new File(folder, Messages.STACK), Json.write(stack.toJson()));
        return folder;
    }

    private static String failed(File folder, Network network) throws IOException {
        IOException error = assertThrows(IOException.class, () -> new StackDepth(folder, network, null).run("1.0", 1));
        byte[] result = Folders.read(new File(folder, StackDepth.RESULT), 1 << 20);
        assertEquals("the host is told too", error.getMessage(), Fields.parse(result, "it").text("error"));
        return error.getMessage();
    }

    @Test
    public void sessionsThatAreNotWhatANetworkTakesAreALine() throws IOException {
        assertEquals("the session has 2 frames; expected 3, which 'xnnpack-fp32' takes",
                failed(session(true, 0.5, 2), network(3, 7, 10)));
        assertTrue(failed(session(false, 0.5, 2, 3), network(3, 7, 10)).contains("is not complete"));
        assertEquals("'frame_002.dng' and 'frame_000.dng' are both at 0.5000 D; expected a focus of its own for each "
                + "frame", failed(session(true, 0.5, 2, 0.5), network(3, 7, 10)).replace(
                        "'frame_000.dng' and 'frame_002.dng'", "'frame_002.dng' and 'frame_000.dng'"));
        assertEquals("frames of 20 x 14 colour pixels; expected at least 40 x 28, which the network takes",
                failed(session(true, 0.5, 2), network(2, 28, 40)));
        assertTrue(failed(session(true, 0.5, 2), network(2, 7, 10)).contains("of at least 32 pixels to align"));
        File changed = session(true, 0.5, 2);
        Folders.append(new File(changed, "frame_001.dng"), "x");
        assertEquals("'frame_001.dng' is not the frame that was taken", failed(changed, network(2, 7, 10)));
    }

    @Test
    public void aFolderWithoutANetworkForStacksIsALine() throws IOException {
        File folder = session(true, 0.5, 2);
        File models = temporary.newFolder();
        assertThrows(IOException.class, () -> StackDepth.run(folder, models, null, "1.0", 1));
        byte[] result = Folders.read(new File(folder, StackDepth.RESULT), 1 << 20);
        assertTrue(Fields.parse(result, "it").text("error").contains("manifest.json"));
        assertTrue(StackDepth.isTaken(folder) && !StackDepth.isTaken(models));
    }

    @Test
    public void networksThatTakeSomethingElseAreRefused() {
        FloatTensor.Type type = FloatTensor.Type.FLOAT32;
        Network stack = network(3, 32, 48);
        StackDepth.check(stack);
        List<TensorForm> inputs = new ArrayList<>(stack.inputs());
        inputs.add(new TensorForm("pose", TensorForm.Kind.SCALAR, true, new long[] {1, 3}, type, ""));
        Network more = new Network("", "x", stack.file(), "", inputs, stack.outputs());
        String said = assertThrows(ProtocolException.class, () -> StackDepth.check(more)).getMessage();
        assertEquals("'x' takes the input 'pose' (1, 3); expected inputs that a stack has: frames (1, N, 3, 32, 48), "
                + "focus_diopters (1, N), width_per_focal (1), blur_px_per_diopter (1, N) and masks, in float32", said);
        inputs.set(2, new TensorForm("width_per_focal", TensorForm.Kind.SCALAR, false, new long[] {1}, type, ""));
        inputs.add(new TensorForm("blur_px_per_diopter", TensorForm.Kind.SCALAR, true, new long[] {1, 3}, type, ""));
        StackDepth.check(new Network("", "x", stack.file(), "", inputs, stack.outputs()));
        Network single = new Network("", "x", stack.file(), "", Arrays.asList(
                new TensorForm("image", TensorForm.Kind.PICTURE, false, new long[] {1, 3, 32, 48}, type, "")),
                stack.outputs());
        assertTrue(assertThrows(ProtocolException.class, () -> StackDepth.check(single)).getMessage()
                .contains("takes no focus stack"));
    }

    @Test
    public void aPlanHasAsManyFramesAsTheNetworkTakes() {
        Messages.Plan plan = StackDepth.plan("depth-1", network(5, 32, 48), 4, 10);
        assertEquals(5, plan.frames().size());
        assertEquals(0, plan.frames().get(0).diopters(), 0);
        assertEquals(4, plan.frames().get(4).diopters(), 0);
        assertEquals("no nearer than the lens goes", 10,
                StackDepth.plan("depth-1", network(2, 32, 48), 50, 10).frames().get(1).diopters(), 0);
    }
}
