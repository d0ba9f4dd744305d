package org.dualpix.demo.core;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * What one network costs here with one number of threads, in the form of the host's {@code profile.schema.json}.
 *
 * <p>Times in seconds, sizes in bytes. {@code samples_s} are the runs after the warm-up, in order.
 */
public final class BenchReport {
    /** A run that is timed. */
    public interface Run {
        List<FloatTensor> now() throws IOException;
    }

    private final BenchRequest request;
    private final DeviceProbe probe;
    private final int threads;
    private final List<Double> samples = new ArrayList<>();
    private List<String> backends = new ArrayList<>();
    private String runtime = "";
    private String before;
    private double started;
    private Double load;
    private Double first;

    BenchReport(BenchRequest request, DeviceProbe probe, int threads) {
        this.request = request;
        this.probe = probe;
        this.threads = threads;
    }

    /** The program is about to be loaded. */
    void loading() {
        before = probe.thermal();
        started = probe.seconds();
    }

    /** It is ready to run. */
    void loaded(InferenceEngine engine) {
        load = probe.seconds() - started;
        backends = engine.backends();
        runtime = engine.runtime();
    }

    List<FloatTensor> first(Run run) throws IOException {
        double start = probe.seconds();
        List<FloatTensor> outputs = run.now();
        first = probe.seconds() - start;
        return outputs;
    }

    void sample(Run run) throws IOException {
        double start = probe.seconds();
        run.now();
        samples.add(probe.seconds() - start);
    }

    /**
     * The profile.
     *
     * @param maxAbsError the largest of any output, null where none came
     * @param error why there are no times, or null
     */
    Map<String, Object> toJson(boolean verified, Double maxAbsError, String error) {
        boolean timed = error == null;
        BenchStats stats = timed ? BenchStats.of(samples.stream().mapToDouble(Double::doubleValue).toArray()) : null;
        String after = probe.thermal();
        return Json.object(
                "subject", Json.object("file", request.model(), "sha256", request.sha256(), "recipe", request.recipe()),
                "target", Json.object("kind", "adb", "device", probe.device(), "soc", probe.soc(), "os", probe.os(),
                        "runtime", runtime),
                "settings", Json.object("threads", threads, "warmup", request.warmup(), "runs", request.runs(),
                        "interleaved_with", Arrays.asList()),
                "load_s", load, "first_s", first, "samples_s", timed ? samples : Arrays.asList(),
                "p50_s", timed ? stats.p50() : null, "p90_s", timed ? stats.p90() : null,
                "p99_s", timed ? stats.p99() : null, "mean_s", timed ? stats.mean() : null,
                "memory", Json.object("pss_bytes", probe.pssBytes()),
                "thermal", before == null || after == null ? null : Json.object("before", before, "after", after),
                "verified", verified, "max_abs_error", maxAbsError, "error", error,
                "backends", backends);
    }
}
