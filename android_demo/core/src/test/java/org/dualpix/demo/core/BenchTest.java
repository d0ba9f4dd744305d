package org.dualpix.demo.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

public class BenchTest {
    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    private final FakeEngine engine = new FakeEngine();
    private File folder;
    private Map<String, Object> request;

    /** Doubles its input, and gives a half besides where it has two outputs; runs take as long as the list says. */
    private static final class FakeEngine implements InferenceEngine, DeviceProbe {
        double now = 5;
        double wrong;
        double secondWrong;
        int outputs = 1;
        int runs;
        int loaded;
        int closes;
        final List<Integer> threads = new ArrayList<>();
        IOException fault;

        @Override
        public void load(File model, int count) throws IOException {
            threads.add(count);
            now += 0.25;
            loaded++;
            if (fault != null && loaded == 2) {
                throw fault;
            }
        }

        @Override
        public List<String> backends() {
            return Arrays.asList("XnnpackBackend");
        }

        @Override
        public List<FloatTensor> run(List<FloatTensor> inputs) {
            now += 0.010 + 0.001 * (runs++ % 4);
            float[] doubled = new float[4];
            for (int i = 0; i < 4; i++) {
                doubled[i] = 2 * inputs.get(0).data().get(i);
            }
            doubled[3] += wrong;
            float[] second = {0.5f + (float) secondWrong};
            List<FloatTensor> both = Arrays.asList(FloatTensor.of(doubled, 1, 4), FloatTensor.of(second, 1));
            return both.subList(0, outputs);
        }

        @Override
        public String runtime() {
            return "fake 1";
        }

        @Override
        public void close() {
            closes++;
        }

        @Override
        public String device() {
            return "Fake phone";
        }

        @Override
        public String soc() {
            return null;
        }

        @Override
        public String os() {
            return "Android 16";
        }

        @Override
        public long pssBytes() {
            return 123_456_789;
        }

        @Override
        public String thermal() {
            return loaded > 1 ? "light" : "none";
        }

        @Override
        public double seconds() {
            return now;
        }
    }

    private void floats(String name, float... values) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        Folders.write(new File(folder, name), out -> out.write(bytes.array()));
    }

    @Before
    public void makeRun() throws IOException {
        folder = temporary.newFolder("run-1");
        Folders.write(new File(folder, "model.pte"), "ET12");
        floats("in.bin", 1, 2, 3, 4);
        floats("expected.bin", 2, 4, 6, 8);
        request = Json.object("format", 2, "run_id", "run-1", "model", "model.pte", "sha256",
                Folders.sha256(new File(folder, "model.pte")), "recipe", "xnnpack-int8",
                "inputs", Arrays.asList(Json.object("file", "in.bin", "shape", Arrays.asList(1, 1, 2, 2))),
                "expected", Arrays.asList(expected("expected.bin", 0.001, 1, 4)),
                "threads", Arrays.asList(1, 2), "warmup", 2, "runs", 8);
    }

    private static Map<String, Object> expected(String file, double maxAbs, Integer... shape) {
        return Json.object("file", file, "shape", Arrays.asList(shape), "max_abs", maxAbs);
    }

    private Map<String, Object> run() throws IOException {
        Folders.write(new File(folder, BenchRequest.REQUEST), Json.write(request));
        new BenchRunner(engine, engine, "1.0", what -> { }).run(folder);
        String text = new String(Folders.read(new File(folder, BenchRequest.RESULT), 1 << 20), "UTF-8");
        return Golden.object(Json.parse(text));
    }

    private String error(Map<String, Object> result) {
        assertEquals(false, result.get("verified"));
        assertTrue("let go of", engine.closes > 0);
        return (String) result.get("error");
    }

    @Test
    public void everyNumberOfThreadsIsCheckedAndTimed() throws IOException {
        Map<String, Object> result = run();
        assertEquals(true, result.get("verified"));
        assertEquals(0.0, Golden.number(result.get("max_abs_error")), 0);
        assertEquals(Arrays.asList(1, 2), engine.threads);
        assertEquals("first, warm-up and runs, twice", 2 * (1 + 2 + 8), engine.runs);
        Map<String, Object> profile = Golden.objects(result.get("profiles")).get(1);
        assertEquals(0.25, Golden.number(profile.get("load_s")), 1e-9);
        assertEquals(8, Golden.numbers(profile.get("samples_s")).length);
        assertEquals(0.0115, Golden.number(profile.get("p50_s")), 1e-9);
        assertEquals(0.0115, Golden.number(profile.get("mean_s")), 1e-9);
        assertEquals(2.0, Golden.number(Golden.object(profile.get("settings")).get("threads")), 0);
        assertEquals("adb", Golden.object(profile.get("target")).get("kind"));
        assertEquals("light", Golden.object(profile.get("thermal")).get("after"));
        assertEquals(123_456_789, Golden.number(Golden.object(profile.get("memory")).get("pss_bytes")), 0);
    }

    @Test
    public void whatComputesSomethingElseIsNotTimed() throws IOException {
        engine.wrong = 0.5;
        Map<String, Object> result = run();
        assertTrue(error(result).startsWith("the output is off by 0.5"));
        assertEquals(0.5, Golden.number(result.get("max_abs_error")), 1e-6);
        assertEquals("ran once", 1, engine.runs);
        assertEquals(0, Golden.numbers(Golden.objects(result.get("profiles")).get(0).get("samples_s")).length);
    }

    @Test
    public void whatIsNoNumberIsNotTimed() throws IOException {
        engine.wrong = Double.NaN;
        assertEquals("value 3 of the output is NaN", error(run()));
    }

    @Test
    public void everyOutputIsCompared() throws IOException {
        engine.outputs = 2;
        floats("second.bin", 0.5f);
        request.put("expected",
                Arrays.asList(expected("expected.bin", 0.001, 1, 4), expected("second.bin", 0.1, 1)));
        engine.secondWrong = 0.0625;
        Map<String, Object> result = run();
        assertEquals(true, result.get("verified"));
        assertArrayEquals(new double[] {0, 0.0625}, Golden.numbers(result.get("max_abs_errors")), 0);
        assertEquals(0.0625, Golden.number(result.get("max_abs_error")), 0);
        engine.secondWrong = 0.125;
        assertEquals("output 2 of 2 is off by 0.125; expected at most 0.1", error(run()));
        engine.secondWrong = Double.NaN;
        assertEquals("value 0 of output 2 is NaN", error(run()));
    }

    @Test
    public void outputsOfAnotherNumberOrShapeAreNotTimed() throws IOException {
        engine.outputs = 2;
        assertEquals("2 outputs came; expected 1", error(run()));
        engine.outputs = 1;
        request.put("expected", Arrays.asList(expected("expected.bin", 0.001, 4, 1)));
        assertEquals("the output is (1, 4); expected (4, 1)", error(run()));
    }

    @Test
    public void anOlderHostIsToldToInstallTheAppThatBelongs() throws IOException {
        request.put("format", 1);
        assertTrue(error(run()).contains("is of format 1; expected format 2: install the app"));
    }

    @Test
    public void whatWasMeasuredBeforeAFaultIsKept() throws IOException {
        engine.fault = new IOException("out of memory");
        Map<String, Object> result = run();
        assertEquals("out of memory", error(result));
        List<Map<String, Object>> profiles = Golden.objects(result.get("profiles"));
        assertEquals(2, profiles.size());
        assertEquals(true, profiles.get(0).get("verified"));
        assertEquals("out of memory", profiles.get(1).get("error"));
    }

    @Test
    public void anotherModelThanWasMeantIsNotLoaded() throws IOException {
        Folders.write(new File(folder, "model.pte"), "ET13");
        assertTrue(error(run()).contains("has digest"));
        assertEquals(0, engine.loaded);
    }

    @Test
    public void badRequestsAreAnswered() throws IOException {
        Object[][] changes = {
            {"model", "../model.pte"}, {"model", "none.pte"}, {"format", 1}, {"run_id", "run-2"}, {"runs", 0},
            {"threads", Arrays.asList()}, {"threads", Arrays.asList(1000)}, {"sha256", "x"}, {"expected", null},
            {"expected", Arrays.asList()}, {"expected", Arrays.asList(expected("expected.bin", 0.001, 5))},
            {"inputs", Arrays.asList()},
            {"inputs", Arrays.asList(Json.object("file", "in.bin", "shape", Arrays.asList(5)))},
            {"inputs", Arrays.asList(Json.object("file", "in.bin", "shape", Arrays.asList(1 << 20, 1 << 20)))},
        };
        for (Object[] change : changes) {
            Object right = request.put((String) change[0], change[1]);
            String said = error(run());
            assertFalse(change[0] + ": " + said, said.isEmpty());
            request.put((String) change[0], right);
        }
        assertEquals(0, engine.loaded);
    }

    @Test
    public void tensorsAreBounded() {
        assertThrows(IllegalArgumentException.class, () -> FloatTensor.count(1L << 40));
        assertThrows(IllegalArgumentException.class, () -> FloatTensor.count(0));
        assertThrows(IllegalArgumentException.class, () -> FloatTensor.count(-1, -1));
        assertThrows(IllegalArgumentException.class, () -> FloatTensor.count(1 << 14, 1 << 14));
    }
}
