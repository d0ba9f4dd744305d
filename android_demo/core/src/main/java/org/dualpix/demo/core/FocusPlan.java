package org.dualpix.demo.core;

import java.util.ArrayList;
import java.util.List;
import org.dualpix.demo.core.Messages.Plan;
import org.dualpix.demo.core.Messages.PlanFrame;
import org.dualpix.demo.core.Messages.SettleRule;

/**
 * Stops of a focus stack, in diopters, far to near: the modes {@code diopter} and {@code coc} of the host.
 *
 * <p>Convention: as in {@code dualpix.capture.focus.modes}. What is exactly even in blur is
 * {@code x = -ln(1 - f P) / f}, in diopters too. Whatever the lens does not reach is refused, never moved into reach.
 */
public final class FocusPlan {
    private FocusPlan() {}

    /** Even in diopters, both ends included. */
    public static double[] evenDiopters(double farD, double nearD, int count) {
        checkEnds(farD, nearD, count);
        return between(farD, nearD, count);
    }

    /** Even in blur, for a lens of this focal length, both ends included. */
    public static double[] evenBlur(double farD, double nearD, int count, double focalLengthMm) {
        checkEnds(farD, nearD, count);
        double fM = focalLengthMm / 1000;
        double[] out = between(even(farD, fM), even(nearD, fM), count);
        for (int i = 0; i < count; i++) {
            out[i] = -Math.expm1(-fM * out[i]) / fM;
        }
        out[0] = farD;
        out[count - 1] = nearD;
        return out;
    }

    /** How many stops even in blur keep a neighbour's blur within a limit on the sensor. */
    public static int countForBlur(double farD, double nearD, double focalLengthMm, double fNumber, double blurMm) {
        double share = blurMm / (focalLengthMm / fNumber);
        if (!(share > 0 && share < 1)) {
            throw new IllegalArgumentException("a blur of " + blurMm + " mm; expected above 0 and below the aperture");
        }
        double fM = focalLengthMm / 1000;
        double step = -Math.log1p(-share) / fM;
        int count = Math.max(2, (int) Math.ceil((even(nearD, fM) - even(farD, fM)) / step - 1e-9) + 1);
        checkEnds(farD, nearD, count);
        return count;
    }

    /** A plan of these stops that leaves the exposure to the phone; the tolerance is the host's. */
    public static Plan plan(String session, double[] stopsD, String cameraId, int lingerMs) {
        List<PlanFrame> frames = new ArrayList<>();
        for (double stop : stopsD) {
            frames.add(new PlanFrame(frames.size(), stop, toleranceD(stop), null, null, null));
        }
        return new Plan(session, frames, SettleRule.USUAL, cameraId, lingerMs);
    }

    /** How far beside a stop the lens may report itself. */
    public static double toleranceD(double diopters) {
        return 0.02 + 0.01 * diopters;
    }

    private static double even(double diopters, double fM) {
        if (!(fM * diopters < 1)) {
            throw new IllegalArgumentException("focus at " + diopters + " D is within the focal length");
        }
        return -Math.log1p(-fM * diopters) / fM;
    }

    private static double[] between(double first, double last, int count) {
        double[] out = new double[count];
        double step = (last - first) / (count - 1);
        for (int i = 0; i < count; i++) {
            out[i] = first + i * step;
        }
        out[count - 1] = last;
        return out;
    }

    private static void checkEnds(double farD, double nearD, int count) {
        if (!(farD >= 0 && farD < nearD && nearD <= 1000)) {
            throw new IllegalArgumentException("from " + farD + " to " + nearD + " D; expected 0 <= far < near");
        }
        if (count < 2 || count > Messages.MAX_FRAMES) {
            throw new IllegalArgumentException(count + " frames; expected 2 to " + Messages.MAX_FRAMES);
        }
    }
}
