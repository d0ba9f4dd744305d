package org.dualpix.demo.core;

import java.util.Arrays;

/** Statistics of a sample of times, as numpy computes them. */
public record BenchStats(double p50, double p90, double p99, double mean) {
    /** Of at least one time. */
    public static BenchStats of(double[] samples) {
        double sum = 0;
        for (double sample : samples) {
            sum += sample;
        }
        return new BenchStats(percentile(samples, 50), percentile(samples, 90), percentile(samples, 99),
                sum / samples.length);
    }

    /** A percentile, linear between the two nearest ranks. */
    public static double percentile(double[] samples, double percent) {
        if (samples.length == 0 || !(percent >= 0 && percent <= 100)) {
            throw new IllegalArgumentException(percent + " % of " + samples.length + " samples");
        }
        double[] sorted = samples.clone();
        Arrays.sort(sorted);
        double rank = percent / 100 * (sorted.length - 1);
        int low = (int) rank;
        int high = Math.min(low + 1, sorted.length - 1);
        return sorted[low] + (sorted[high] - sorted[low]) * (rank - low);
    }
}
