package org.dualpix.demo.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.dualpix.demo.core.Preprocess.Picture;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Manifests, the inputs that they ask for, and outputs of every kind. */
public class NetworkTest {
    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    private File folder;
    private Map<String, Object> manifest;

    private static Map<String, Object> tensor(String name, Integer... shape) {
        return Json.object("name", name, "shape", Arrays.asList(shape), "dtype", "float32");
    }

    private static Map<String, Object> with(Map<String, Object> tensor, String key, Object value) {
        tensor.put(key, value);
        return tensor;
    }

    @Before
    public void makeExport() throws IOException {
        folder = temporary.newFolder("models");
        Folders.write(new File(folder, "a.pte"), "x");
        manifest = Json.object("format", 3, "model", Json.object("task", "dual_pixel"),
                "input", Json.object("tensors", Arrays.asList(tensor("image", 1, 3, 2, 4), tensor("left", 1, 1, 2, 4),
                        tensor("right", 1, 1, 2, 4))),
                "outputs", Arrays.asList(with(tensor("disparity_px", 1, 1, 2, 4), "unit", "px"),
                        with(tensor("confidence", 1, 1, 2, 4), "unit", "not stated"), tensor("sharp", 1, 3, 2, 4)),
                "artefacts", Arrays.asList(artefact("xnnpack-fp32", "a.pte"), artefact("xnnpack-int8", "gone.pte"),
                        artefact("coreml-fp16", "b.mlpackage")));
    }

    private static Map<String, Object> artefact(String recipe, String file) {
        return Json.object("recipe", recipe, "file", file, "sha256", "00");
    }

    private void inputs(Object... tensors) {
        manifest.put("input", Json.object("tensors", Arrays.asList(tensors)));
    }

    private void outputs(Object... tensors) {
        manifest.put("outputs", Arrays.asList(tensors));
    }

    private Network read() throws IOException {
        Folders.write(new File(folder, "manifest.json"), Json.write(manifest));
        List<Network> found = ModelFolder.read(folder);
        assertEquals(1, found.size());
        return found.get(0);
    }

    private String refused() {
        return assertThrows(ProtocolException.class, this::read).getMessage();
    }

    private String unfed() throws IOException {
        Network network = read();
        return assertThrows(ProtocolException.class, () -> LiveInputs.check(network)).getMessage();
    }

    private static FloatTensor ramp(long... shape) {
        FloatTensor out = FloatTensor.zeros(shape);
        for (int i = 0; i < out.data().capacity(); i++) {
            out.data().put(i, i / 8f);
        }
        return out;
    }

    private static List<FloatTensor> good() {
        return new ArrayList<>(Arrays.asList(ramp(1, 1, 2, 4), ramp(1, 1, 2, 4), ramp(1, 3, 2, 4)));
    }

    @Test
    public void theNetworksOfAnExportAreFoundByTheirManifest() throws IOException {
        Network network = read();
        assertEquals("xnnpack-fp32", network.recipe());
        assertEquals("dual_pixel", network.task());
        assertArrayEquals(new long[] {1, 3, 2, 4}, network.inputs().get(0).shape());
        assertEquals("px", network.outputs().get(0).unit());
        assertEquals("what is not stated is no unit", "", network.outputs().get(1).unit());
        assertFalse(network.takesStacks());
        assertEquals(4, network.picture().width());
    }

    @Test
    public void theLiveViewStartsWithTheInt8ProgramThatIsThere() throws IOException {
        assertEquals(0, ModelFolder.quickest(Arrays.asList(read())));
        Folders.write(new File(folder, "gone.pte"), "y");
        List<Network> both = ModelFolder.read(folder);
        assertEquals("xnnpack-int8", both.get(ModelFolder.quickest(both)).recipe());
        assertEquals(0, ModelFolder.quickest(new ArrayList<>()));
    }

    @Test
    public void kindsThatAreStatedCountAndOthersFollowFromShapes() throws IOException {
        inputs(with(with(tensor("frames", 1, 5, 3, 2, 4), "kind", "picture"), "per_frame", true),
                with(with(tensor("focus_diopters", 1, 5), "kind", "scalar"), "per_frame", true),
                with(tensor("odd", 1, 1, 2, 4), "kind", "mask"), tensor("sky_mask", 1, 1, 2, 4), tensor("f_number", 1),
                tensor("plain"), tensor("more", 1, 5, 1, 2, 4));
        Network network = read();
        assertTrue(network.takesStacks());
        assertEquals(5, network.frames());
        assertEquals(Arrays.asList(TensorForm.Kind.PICTURE, TensorForm.Kind.SCALAR, TensorForm.Kind.MASK,
                TensorForm.Kind.MASK, TensorForm.Kind.SCALAR, TensorForm.Kind.SCALAR, TensorForm.Kind.PICTURE),
                network.inputs().stream().map(TensorForm::kind).collect(Collectors.toList()));
        assertEquals(Arrays.asList(true, true, false, false, false, false, true),
                network.inputs().stream().map(TensorForm::perFrame).collect(Collectors.toList()));
    }

    @Test
    public void manifestsThatDoNotAddUpAreRefusedInALine() {
        inputs(with(with(tensor("frames", 1, 3, 2, 4), "kind", "picture"), "per_frame", true));
        assertEquals("manifest.json: input: tensors[0]: shape is [1, 3, 2, 4]; expected for a picture per frame: "
                + "[1, N, C, H, W]", refused());
        inputs(with(tensor("focus", 1, 5), "kind", "scalar"), "x");
        assertTrue(refused().contains("tensors"));
        inputs(with(tensor("image", 1, 3, 2, 4), "dtype", "bool"));
        assertTrue(refused(), refused().endsWith("dtype is \"bool\"; expected one of: float32, uint8, int32, int64"));
        inputs(tensor("image", 1, 3, 2, 4), tensor("image", 1, 3, 2, 4));
        assertTrue(refused().contains("expected another name"));
        inputs(tensor("image", 1, 3, 1 << 14, 1 << 14));
        assertTrue(refused().contains("expected at most 268435456 bytes of values"));
        inputs(tensor("image", 1, 3, 2, 4));
        manifest.put("format", 2);
        assertEquals("manifest.json is of format 2; expected format 3: export again with the dualpix that this app "
                + "belongs to", refused());
        manifest.put("format", 3);
        outputs();
        assertTrue(refused().contains("outputs is []"));
        manifest.remove("outputs");
        assertTrue(refused().contains("outputs is nothing"));
    }

    @Test
    public void aFileOutsideTheFolderIsRefused() {
        manifest.put("artefacts", Arrays.asList(artefact("x", "../a.pte")));
        assertThrows(ProtocolException.class, this::read);
    }

    @Test
    public void outputsAreTakenByTheirNames() throws IOException {
        Outputs outputs = read().outputs(good());
        assertEquals("disparity_px", outputs.shown().name());
        assertArrayEquals(good().get(1).values(), outputs.confidence(), 0);
        assertArrayEquals(new long[] {1, 3, 2, 4}, outputs.named("sharp").shape());
        assertNull(outputs.named("depth_m"));
        outputs(tensor("sharp", 1, 3, 2, 4), tensor("confidence", 1, 1, 2, 4), tensor("depth_m", 1, 1, 2, 4));
        List<FloatTensor> turned = good();
        Collections.reverse(turned);
        outputs = read().outputs(turned);
        assertEquals("what is shown is no confidence, wherever it stands", "depth_m", outputs.shown().name());
        assertArrayEquals(turned.get(1).values(), outputs.confidence(), 0);
    }

    @Test
    public void outputsThatAreMissingOfAnotherShapeOrNotFiniteAreALine() throws IOException {
        Network network = read();
        List<FloatTensor> given = good();
        given.remove(2);
        assertEquals("'a.pte' gives 2 outputs: 'sharp' is missing; expected 'disparity_px' (1, 1, 2, 4), "
                + "'confidence' (1, 1, 2, 4), 'sharp' (1, 3, 2, 4)", said(network, given));
        given = good();
        given.add(ramp(1));
        assertTrue(said(network, given).startsWith("'a.pte' gives 4 outputs: more than the manifest names"));
        given = good();
        given.set(1, ramp(1, 2, 2, 2));
        assertEquals("output 'confidence' is (1, 2, 2, 2); expected (1, 1, 2, 4) as the manifest says",
                said(network, given));
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            given = good();
            given.get(2).data().put(17, bad);
            assertEquals("output 'sharp' is " + bad + " at value 17; expected finite values", said(network, given));
        }
    }

    private static String said(Network network, List<FloatTensor> given) {
        return assertThrows(IOException.class, () -> network.outputs(given)).getMessage();
    }

    private static Picture seen() {
        float[] values = new float[24];
        for (int i = 0; i < 24; i++) {
            values[i] = 0.02f * i;
        }
        return new Picture(values, 3, 2, 4);
    }

    @Test
    public void inputsAreMadeByNameWhateverTheirOrder() throws IOException {
        inputs(tensor("right", 1, 1, 2, 4), with(tensor("sky_mask", 1, 1, 2, 4), "dtype", "uint8"),
                tensor("image", 1, 3, 2, 4));
        Network network = read();
        LiveInputs.check(network);
        assertTrue(LiveInputs.repeatsHalves(network));
        List<FloatTensor> made = LiveInputs.of(network, seen());
        Picture grey = Preprocess.grey(seen());
        FloatTensor[] three = Preprocess.networkInputs(grey, grey, seen());
        assertArrayEquals(three[2].values(), made.get(0).values(), 0);
        assertArrayEquals(new float[] {1, 1, 1, 1, 1, 1, 1, 1}, made.get(1).values(), 0);
        assertEquals(FloatTensor.Type.UINT8, made.get(1).type());
        assertArrayEquals(three[0].values(), made.get(2).values(), 0);
    }

    @Test
    public void aSinglePictureIsTheImageWhateverItsName() throws IOException {
        inputs(tensor("x", 1, 1, 2, 4));
        Network network = read();
        LiveInputs.check(network);
        assertFalse(LiveInputs.repeatsHalves(network));
        assertArrayEquals(Preprocess.imageInput(seen(), 1).values(), LiveInputs.of(network, seen()).get(0).values(), 0);
    }

    @Test
    public void inputsThatTheLiveViewDoesNotHaveAreRefusedInALine() throws IOException {
        inputs(tensor("image", 1, 3, 2, 4), tensor("f_number", 1));
        assertEquals("'xnnpack-fp32' takes the input 'f_number' (1); expected inputs that the live view has: image, "
                + "left, right as float32 pictures, and masks", unfed());
        inputs(tensor("image", 1, 3, 2, 4), tensor("thermal", 1, 1, 2, 4));
        assertTrue(unfed().contains("'thermal'"));
        inputs(tensor("image", 1, 4, 2, 4));
        assertTrue(unfed().contains("'image' (1, 4, 2, 4)"));
        inputs(with(tensor("image", 1, 3, 2, 4), "dtype", "uint8"));
        assertTrue(unfed().contains("as float32"));
        inputs(tensor("image", 2, 3, 2, 4));
        assertTrue(unfed().contains("'image' (2, 3, 2, 4)"));
        inputs(tensor("image", 1, 3, 2, 4), tensor("left", 1, 1, 2, 2));
        assertEquals("input 'left' (1, 1, 2, 2); expected 2 x 4 pixels as those of 'image'", unfed());
        inputs(tensor("f_number", 1));
        assertTrue(unfed().contains("takes no picture"));
        inputs(tensor("frames", 1, 5, 3, 2, 4), tensor("focus_diopters", 1, 5));
        assertTrue(unfed(), unfed().startsWith("'xnnpack-fp32' takes 5 frames of a focus stack"));
        inputs(tensor("frames", 1, 5, 3, 2, 4), tensor("focus_diopters", 1, 4));
        assertEquals("input 'focus_diopters' (1, 4); expected 5 frames as its other inputs have", unfed());
    }

    @Test
    public void whatIsShownFollowsTheOutputs() throws IOException {
        Shown shown = Shown.of(read().outputs(good()), 1, false);
        assertEquals(Overlay.Scale.DIVERGING, shown.scale());
        assertEquals(0.5, shown.sureShare(), 0);
        assertEquals("disparity_px \u00b10.9 px, 50 % sure", shown.said());
        assertEquals(8, shown.sharp().length);
        assertEquals("nothing is sure of the first", 0, shown.argb()[0] >>> 24);
        outputs(with(tensor("depth_m", 1, 1, 2, 4), "unit", "m"));
        shown = Shown.of(read().outputs(Arrays.asList(ramp(1, 1, 2, 4))), 1, false);
        assertNull(shown.sureShare());
        assertNull(shown.sharp());
        assertTrue(shown.said(), shown.said().startsWith("depth_m 0.00"));
        outputs(tensor("sharp", 1, 3, 2, 4));
        shown = Shown.of(read().outputs(Arrays.asList(ramp(1, 3, 2, 4))), 1, false);
        assertNull(shown.argb());
        assertEquals("sharp", shown.said());
        outputs(tensor("label", 1));
        Outputs none = read().outputs(Arrays.asList(ramp(1)));
        assertEquals("the network gives 'label' (1); expected a map (1, 1, H, W), or 'sharp' (1, 3, H, W)",
                assertThrows(ProtocolException.class, () -> Shown.of(none, 1, false)).getMessage());
    }

    @Test
    public void aConfidenceOfAnotherSizeIsNotLaidOverTheMap() throws IOException {
        outputs(tensor("disparity_px", 1, 1, 2, 4), tensor("confidence", 1, 1, 1, 2));
        Outputs outputs = read().outputs(Arrays.asList(ramp(1, 1, 2, 4), ramp(1, 1, 1, 2)));
        assertNull(outputs.confidence());
    }

    @Test
    public void disparityIsClearInFocusRedInFrontAndBlueBehind() {
        float[] values = {0, -2, 2, Float.NaN, -9};
        int[] argb = Overlay.colours(values, null, false, Overlay.Scale.DIVERGING, new Overlay.Range(-2, 2));
        assertEquals(0, argb[0] >>> 24);
        assertEquals(0xc8b2182b, argb[1]);
        assertEquals(0xc82166ac, argb[2]);
        assertEquals(0, argb[3]);
        assertEquals(argb[1], argb[4]);
        assertEquals(1, Overlay.range(new float[] {Float.NaN}, null, Overlay.Scale.DIVERGING, 1).high(), 0);
        assertEquals(3, Overlay.range(new float[] {3, -3}, null, Overlay.Scale.DIVERGING, 1).high(), 1e-6);
    }

    @Test
    public void whatIsUnsureFadesOrStaysClear() {
        float[] values = {2, 2, 2, 2, 2};
        float[] confidence = {1, 0.5f, 0.25f, 0, -1};
        Overlay.Range range = new Overlay.Range(-2, 2);
        int[] faded = Overlay.colours(values, confidence, false, Overlay.Scale.DIVERGING, range);
        int[] sure = Overlay.colours(values, confidence, true, Overlay.Scale.DIVERGING, range);
        assertArrayEquals(new int[] {200, 200, 100, 0, 0}, alphas(faded));
        assertArrayEquals(new int[] {200, 200, 0, 0, 0}, alphas(sure));
        assertEquals(0.4, Overlay.sureShare(confidence), 1e-12);
        float[] wild = {1, 1, 50, 50};
        float[] trust = {1, 1, 0, 0};
        assertEquals("the scale is that of what is sure", 1,
                Overlay.range(wild, trust, Overlay.Scale.DIVERGING, 0.5).high(), 0);
        assertEquals("where nothing is sure it is that of all", 50,
                Overlay.range(wild, new float[4], Overlay.Scale.DIVERGING, 0.5).high(), 1e-6);
    }

    private static int[] alphas(int[] argb) {
        return Arrays.stream(argb).map(colour -> colour >>> 24).toArray();
    }

    @Test
    public void depthHasTheHostsColours() throws IOException {
        Map<String, Object> g = Golden.object(Golden.json("core-overlay.json"));
        double[] depths = Golden.numbers(g.get("depths_m"));
        float[] values = new float[depths.length];
        for (int i = 0; i < depths.length; i++) {
            values[i] = (float) depths[i];
        }
        double[] ends = Golden.numbers(g.get("limits_d"));
        Overlay.Range range = Overlay.range(values, null, Overlay.Scale.DEPTH, 0);
        assertArrayEquals(ends, new double[] {range.low(), range.high()}, 1e-5);
        int[] argb = Overlay.colours(values, null, false, Overlay.Scale.DEPTH, range);
        double[] colours = Golden.numbers(g.get("colours"));
        for (int i = 0; i < argb.length; i++) {
            assertEquals(200, argb[i] >>> 24);
            for (int c = 0; c < 3; c++) {
                int shown = argb[i] >> 8 * (2 - c) & 255;
                assertEquals("colour " + c + " of " + depths[i] + " m", colours[3 * i + c], shown, 7);
            }
        }
        assertEquals("0.200 to 10.0 m", Overlay.said(new Overlay.Range(0.1, 5), Overlay.Scale.DEPTH, "m"));
        assertEquals("0.200 to Infinity", Overlay.said(new Overlay.Range(0, 5), Overlay.Scale.DEPTH, ""));
    }
}
