package org.dualpix.demo.core;

/**
 * Defocus of a thin lens and disparity of its two halves.
 *
 * <p>Convention: as in {@code dualpix.capture.optics}: {@code c = A f (P_f - P) / (1 - f P_f)} with {@code A = f / N},
 * a diameter on the sensor, above 0 behind the focus plane; {@code disparity = gain c / pitch}.
 *
 * @param disparityGain disparity per diameter of blur; {@link #IDEAL_GAIN} for two ideal half discs
 */
public record ThinLens(
        double focalLengthMm, double fNumber, double focusDistanceM, double pixelPitchUm, double disparityGain) {
    public static final double IDEAL_GAIN = 4.0 / (3.0 * Math.PI);

    /** A lens that is physically possible; {@link IllegalArgumentException} otherwise. */
    public ThinLens {
        for (double value : new double[] {focalLengthMm, fNumber, pixelPitchUm, disparityGain}) {
            if (!(value > 0 && value < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("a value of the lens is " + value + "; expected a positive number");
            }
        }
        if (!(focusDistanceM * 1000 > focalLengthMm)) {
            throw new IllegalArgumentException("focus distance " + focusDistanceM + " m is within the focal length of "
                    + focalLengthMm + " mm");
        }
    }

    /** Diameter of the entrance pupil. */
    public double apertureMm() {
        return focalLengthMm / fNumber;
    }

    /** Signed diameter of the blur on the sensor of a point at a depth above 0, up to infinity. */
    public double circleMm(double depthM) {
        return mmPerDiopter() * (1 / focusDistanceM - 1 / depthM);
    }

    public double circlePx(double depthM) {
        return circleMm(depthM) * (1000 / pixelPitchUm);
    }

    /** Disparity {@code x_right - x_left} in pixels. */
    public double disparityPx(double depthM) {
        return circlePx(depthM) * disparityGain;
    }

    /** Inverse depth in 1/m of a disparity; below 0 beyond the disparity of infinity. */
    public double dioptersFromDisparity(double disparityPx) {
        return 1 / focusDistanceM - disparityPx * (pixelPitchUm / 1000 / disparityGain) / mmPerDiopter();
    }

    /** Depth in m of a disparity; infinity at and beyond the disparity of infinity. */
    public double depthM(double disparityPx) {
        return distanceM(dioptersFromDisparity(disparityPx));
    }

    /** Depth in m of a signed blur on the sensor; infinity from that of infinitely far points on. */
    public double depthFromCircleM(double circleMm) {
        return distanceM(1 / focusDistanceM - circleMm / mmPerDiopter());
    }

    /** Nearest focus distance in m that keeps infinity within a blur: f^2 / (N c) + f. */
    public static double hyperfocalM(double focalLengthMm, double fNumber, double blurLimitMm) {
        return (focalLengthMm * focalLengthMm / (fNumber * blurLimitMm) + focalLengthMm) / 1000;
    }

    /** Diopters to m; infinity at 0 and below. */
    public static double distanceM(double diopters) {
        return diopters > 0 ? 1 / diopters : Double.POSITIVE_INFINITY;
    }

    private double mmPerDiopter() {
        double fM = focalLengthMm / 1000;
        return apertureMm() * fM / (1 - fM * (1 / focusDistanceM));
    }
}
