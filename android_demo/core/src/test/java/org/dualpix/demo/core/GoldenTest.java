package org.dualpix.demo.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.Test;

/** Java against what Python computed. */
public class GoldenTest {
    private static void same(String what, double expected, double found) {
        if (expected != found) { // infinities are equal, their difference is not
            assertEquals(what, expected, found, 1e-9 * Math.max(1, Math.abs(expected)));
        }
    }

    @Test
    public void thinLens() throws IOException {
        for (Map<String, Object> g : Golden.objects(Golden.json("core-lens.json"))) {
            ThinLens lens = new ThinLens(Golden.number(g.get("focal_length_mm")), Golden.number(g.get("f_number")),
                    Golden.number(g.get("focus_distance_m")), Golden.number(g.get("pixel_pitch_um")),
                    Golden.number(g.get("disparity_gain")));
            double[] depths = Golden.numbers(g.get("depths_m"));
            for (int i = 0; i < depths.length; i++) {
                same("circle", Golden.numbers(g.get("circles_mm"))[i], lens.circleMm(depths[i]));
                same("disparity", Golden.numbers(g.get("disparities_px"))[i], lens.disparityPx(depths[i]));
            }
            double[] disparities = Golden.numbers(g.get("of_disparities_px"));
            for (int i = 0; i < disparities.length; i++) {
                same("diopters", Golden.numbers(g.get("diopters"))[i], lens.dioptersFromDisparity(disparities[i]));
                same("depth", Golden.numbers(g.get("depths_of_disparities_m"))[i], lens.depthM(disparities[i]));
            }
            same("hyperfocal", Golden.number(g.get("hyperfocal_m")),
                    ThinLens.hyperfocalM(lens.focalLengthMm(), lens.fNumber(), 0.02));
            same("near", Golden.number(g.get("near_m")), lens.depthFromCircleM(-0.02));
            same("far", Golden.number(g.get("far_m")), lens.depthFromCircleM(0.02));
        }
    }

    @Test
    public void anImpossibleLensIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> new ThinLens(50, 2.8, 0.05, 5, 0.4));
        assertThrows(IllegalArgumentException.class, () -> new ThinLens(50, Double.NaN, 1, 5, 0.4));
        assertThrows(IllegalArgumentException.class, () -> new ThinLens(50, 2.8, 1, 0, 0.4));
    }

    @Test
    public void focusPlans() throws IOException {
        for (Map<String, Object> g : Golden.objects(Golden.json("core-focus.json"))) {
            double far = Golden.number(g.get("far_d"));
            double near = Golden.number(g.get("near_d"));
            int count = (int) Golden.number(g.get("count"));
            double focal = Golden.number(g.get("focal_length_mm"));
            if (g.get("blur_mm") != null) {
                assertEquals(count, FocusPlan.countForBlur(far, near, focal, Golden.number(g.get("f_number")),
                        Golden.number(g.get("blur_mm"))));
            }
            double[] stops = "diopter".equals(g.get("mode")) ? FocusPlan.evenDiopters(far, near, count)
                    : FocusPlan.evenBlur(far, near, count, focal);
            assertArrayEquals(Golden.numbers(g.get("stops_d")), stops, 1e-9);
        }
    }

    @Test
    public void plansThatNoLensCanTakeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> FocusPlan.evenDiopters(2, 1, 3));
        assertThrows(IllegalArgumentException.class, () -> FocusPlan.evenDiopters(0, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> FocusPlan.evenDiopters(0, Double.NaN, 5));
        assertThrows(IllegalArgumentException.class, () -> FocusPlan.evenBlur(0, 150, 5, 6.9));
        assertThrows(IllegalArgumentException.class, () -> FocusPlan.countForBlur(0, 10, 6.9, 1.7, 5));
        Messages.Plan plan = FocusPlan.plan("own-1", FocusPlan.evenDiopters(0, 8, 5), null, 0);
        assertEquals(5, plan.frames().size());
        assertEquals(0.1, plan.frames().get(4).toleranceD(), 1e-12);
    }

    @Test
    public void statistics() throws IOException {
        for (Map<String, Object> g : Golden.objects(Golden.json("core-bench.json"))) {
            BenchStats stats = BenchStats.of(Golden.numbers(g.get("samples_s")));
            assertEquals(Golden.number(g.get("p50_s")), stats.p50(), 1e-9);
            assertEquals(Golden.number(g.get("p90_s")), stats.p90(), 1e-9);
            assertEquals(Golden.number(g.get("p99_s")), stats.p99(), 1e-9);
            assertEquals(Golden.number(g.get("mean_s")), stats.mean(), 1e-9);
        }
        assertThrows(IllegalArgumentException.class, () -> BenchStats.percentile(new double[0], 50));
    }

    @Test
    public void coloursOfYuvAreExact() throws IOException {
        Map<String, Object> g = Golden.object(Golden.object(Golden.json("core-preprocess.json")).get("rgb_sums"));
        long state = (long) Golden.number(g.get("seed"));
        long[] sums = new long[3];
        for (int i = 0; i < Golden.number(g.get("count")); i++) {
            int[] yuv = new int[3];
            for (int k = 0; k < 3; k++) {
                state = (1103515245L * state + 12345) % (1L << 31);
                yuv[k] = (int) (state >> 16 & 255);
            }
            for (int k = 0; k < 3; k++) {
                sums[k] += Preprocess.rgb(k, yuv[0], yuv[1], yuv[2]);
            }
        }
        assertEquals(Arrays.toString(Golden.numbers(g.get("sums"))),
                Arrays.toString(Arrays.stream(sums).asDoubleStream().toArray()));
    }

    /** A plane with strides and rubbish between the samples. */
    private static Preprocess.Plane plane(Object rows, int pixelStride, int padding, int sampleBytes) {
        List<?> lines = (List<?>) rows;
        int width = Golden.numbers(lines.get(0)).length;
        int rowStride = width * pixelStride + padding;
        ByteBuffer data = ByteBuffer.allocateDirect(lines.size() * rowStride);
        for (int i = 0; i < data.capacity(); i++) {
            data.put(i, (byte) 0xa5);
        }
        for (int y = 0; y < lines.size(); y++) {
            double[] values = Golden.numbers(lines.get(y));
            for (int x = 0; x < width; x++) {
                for (int b = 0; b < sampleBytes; b++) {
                    data.put(y * rowStride + x * pixelStride + b, (byte) ((int) values[x] >> (8 * b)));
                }
            }
        }
        return new Preprocess.Plane(data, rowStride, pixelStride);
    }

    private static void sameBits(Object expected, float[] found) {
        double[] values = Golden.numbers(expected);
        assertEquals(values.length, found.length);
        for (int i = 0; i < values.length; i++) {
            assertEquals("value " + i, Float.floatToIntBits((float) values[i]), Float.floatToIntBits(found[i]));
        }
    }

    @Test
    public void preprocessing() throws IOException {
        Map<String, Object> g = Golden.object(Golden.json("core-preprocess.json"));
        Map<String, Object> yuv = Golden.object(g.get("yuv"));
        Preprocess.Plane y = plane(yuv.get("y"), 1, 3, 1);
        Preprocess.Plane u = plane(yuv.get("u"), 2, 1, 1);
        Preprocess.Plane v = plane(yuv.get("v"), 2, 5, 1);
        sameBits(g.get("yuv_linear"), Preprocess.fromYuv(y, u, v, 8, 6, 8, 6).values());
        int[] argb = new int[12];
        Preprocess.toArgb(y, u, v, Preprocess.Region.whole(8, 6), 4, 3, argb);
        for (int i = 0; i < 12; i++) {
            double linear = Golden.numbers(g.get("yuv_linear"))[i / 4 * 16 + i % 4 * 2];
            double shown = (argb[i] >> 16 & 255) / 255.0;
            assertEquals(linear, shown <= 0.04045 ? shown / 12.92 : Math.pow((shown + 0.055) / 1.055, 2.4), 1e-6);
        }
        Preprocess.Picture colour = Preprocess.fromYuv(y, u, v, 8, 6, 4, 3);
        sameBits(g.get("yuv_reduced"), colour.values());

        List<?> halves = (List<?>) g.get("halves");
        Preprocess.Picture[] raw = new Preprocess.Picture[2];
        for (int i = 0; i < 2; i++) {
            raw[i] = Preprocess.fromRaw(plane(halves.get(i), 4, 6, 2), 8, 6, Golden.number(g.get("black")),
                    Golden.number(g.get("white")), 4, 3);
            sameBits(((List<?>) g.get("halves_reduced")).get(i), raw[i].values());
        }
        List<?> inputs = (List<?>) g.get("inputs");
        FloatTensor[] three = Preprocess.networkInputs(raw[0], raw[1], colour);
        FloatTensor[] one = Preprocess.networkInputs(raw[0], raw[1], raw[0]);
        for (int i = 0; i < 3; i++) {
            sameBits(inputs.get(i), three[i].values());
            sameBits(inputs.get(3 + i), one[i].values());
        }
        assertArrayEquals(new long[] {1, 3, 3, 4}, one[0].shape());
        sameBits(inputs.get(0), Preprocess.imageInput(colour, 3).values());
        sameBits(g.get("grey_input"), Preprocess.imageInput(colour, 1).values());
        Preprocess.Region part = new Preprocess.Region(2, 2, 6, 4);
        sameBits(g.get("yuv_part"), Preprocess.fromYuv(y, u, v, part, 3, 2).values());
    }

    @Test
    public void bytesOfColours() throws IOException {
        Map<String, Object> g = Golden.object(Golden.json("core-preprocess.json"));
        double[] values = Golden.numbers(g.get("rgb"));
        int rowStride = 7 * 4 + 9;
        ByteBuffer data = ByteBuffer.allocate(5 * rowStride);
        for (int i = 0; i < 35; i++) {
            for (int c = 0; c < 3; c++) {
                data.put(i / 7 * rowStride + i % 7 * 4 + c, (byte) values[3 * i + c]);
            }
        }
        sameBits(g.get("rgb_reduced"),
                Preprocess.fromRgb(new Preprocess.Plane(data, rowStride, 4), 7, 5, 3, 2).values());
    }

    @Test
    public void whatANetworkGivesIsShownAsLight() throws IOException {
        Map<String, Object> g = Golden.object(Golden.object(Golden.json("core-preprocess.json")).get("sharp"));
        double[] encoded = Golden.numbers(g.get("encoded"));
        double gain = Golden.number(g.get("gain"));
        float[] values = new float[encoded.length];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) encoded[i];
            same("light", Golden.numbers(g.get("linear"))[i], Preprocess.decode(encoded[i], gain));
        }
        int[] argb = Preprocess.argbOfEncoded(values, gain);
        assertArrayEquals(Golden.numbers(g.get("argb")), Arrays.stream(argb).asDoubleStream().toArray(), 0);
    }

    @Test
    public void partsKeepTheShapeOfTheResultAndThePhaseOfTheMosaic() {
        assertEquals(new Preprocess.Region(0, 0, 640, 480), Preprocess.Region.centred(640, 480, 512, 384));
        assertEquals(new Preprocess.Region(0, 60, 640, 360), Preprocess.Region.centred(640, 480, 320, 180));
        assertEquals(new Preprocess.Region(80, 0, 480, 480), Preprocess.Region.centred(640, 480, 96, 96));
        assertEquals(new Preprocess.Region(0, 0, 5, 5), Preprocess.Region.centred(6, 5, 3, 3));
        assertThrows(IllegalArgumentException.class, () -> Preprocess.Region.centred(6, 5, 0, 3));
    }

    @Test
    public void gains() throws IOException {
        Golden.object(Golden.object(Golden.json("core-preprocess.json")).get("gains")).forEach((mean, gain) ->
                assertEquals(Golden.number(gain), Preprocess.gain(Double.parseDouble(mean)), 1e-9));
        assertEquals(-0.4, Preprocess.encode(-3, 1), 0);
        assertEquals(1.6, Preprocess.encode(99, 1), 0);
    }

    @Test
    public void planesThatAreTooSmallAreRefused() {
        Preprocess.Plane small = new Preprocess.Plane(ByteBuffer.allocate(47), 8, 1);
        assertThrows(IllegalArgumentException.class, () -> Preprocess.fromYuv(small, small, small, 8, 6, 4, 3));
        Preprocess.Plane raw = new Preprocess.Plane(ByteBuffer.allocate(96), 16, 2);
        assertEquals(12, Preprocess.fromRaw(raw, 8, 6, 0, 1, 4, 3).values().length);
        assertThrows(IllegalArgumentException.class, () -> Preprocess.fromRaw(raw, 8, 6, 1, 1, 4, 3));
        assertThrows(IllegalArgumentException.class, () -> Preprocess.fromRaw(raw, 8, 6, 0, 1, 9, 3));
        assertThrows(IllegalArgumentException.class,
                () -> Preprocess.fromRaw(new Preprocess.Plane(raw.data(), 16, 1), 8, 6, 0, 1, 4, 3));
    }
}
