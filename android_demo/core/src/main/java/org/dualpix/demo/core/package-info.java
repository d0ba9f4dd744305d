/**
 * What the app decides, without Android: plans, lens, sweep, protocol, preprocessing, benchmark.
 *
 * <p>Convention: focus is in diopters (1/m from the lens, 0 at infinity), lengths carry their unit in the name
 * ({@code Mm}, {@code M}, {@code Px}), times of exposure are integer nanoseconds, times of waiting integer
 * milliseconds. Only classes of Java that Android 8 (API 26) has.
 */
package org.dualpix.demo.core;
