package org.dualpix.demo.core;

import java.util.Arrays;

/**
 * Matches two pictures by an affine map: the enhanced correlation coefficient of Evangelidis and Psarakis (IEEE TPAMI
 * 30(10), 2008), as {@code cv2.findTransformECC} computes it for the host, which reads pictures between pixels in steps
 * of 1/32 and this exactly.
 *
 * <p>Both pictures are first smoothed by 5 x 5 pixels. The correlation does not see changes of exposure.
 */
final class Ecc {
    private static final int ITERATIONS = 100;
    private static final double EPSILON = 1e-6;
    private static final int PARAMETERS = 6;
    private static final double[] SMOOTHING = gaussian();

    /** A map from the first picture to the second, and their correlation; NaN where nothing was found. */
    record Match(Affine map, double correlation) {}

    private final int width;
    private final int height;
    private final float[] fixed;
    private final float[] moving;
    private final float[] slopeX;
    private final float[] slopeY;

    private Ecc(float[] fixed, float[] moving, int width, int height) {
        this.width = width;
        this.height = height;
        this.fixed = smoothed(fixed, width, height);
        this.moving = smoothed(moving, width, height);
        slopeX = new float[width * height];
        slopeY = new float[width * height];
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int left = y * width + mirrored(x - 1, width);
                int right = y * width + mirrored(x + 1, width);
                slopeX[y * width + x] = (this.moving[right] - this.moving[left]) / 2;
                int above = mirrored(y - 1, height) * width + x;
                int below = mirrored(y + 1, height) * width + x;
                slopeY[y * width + x] = (this.moving[below] - this.moving[above]) / 2;
            }
        }
    }

    /** Where points of {@code fixed} are seen in {@code moving}, both (height, width). */
    static Match match(float[] fixed, float[] moving, int width, int height) {
        Ecc ecc = new Ecc(fixed, moving, width, height);
        Affine map = Affine.IDENTITY;
        double rho = -1;
        double last = -EPSILON;
        for (int i = 0; i < ITERATIONS && Math.abs(rho - last) >= EPSILON; i++) {
            Step step = ecc.step(map);
            if (step == null) { // no texture, or it wandered off
                return new Match(Affine.IDENTITY, Double.NaN);
            }
            last = rho;
            rho = step.rho();
            map = step.map();
        }
        return new Match(map, rho);
    }

    private record Step(Affine map, double rho) {}

    /** One step of Gauss and Newton; null where there is none. */
    private Step step(Affine map) {
        int size = width * height;
        double[] seen = new double[size];
        double[] gradientX = new double[size];
        double[] gradientY = new double[size];
        boolean[] inside = new boolean[size];
        int count = 0;
        double seenSum = 0;
        double fixedSum = 0;
        for (int i = 0; i < size; i++) {
            double x = map.x(i % width, i / width);
            double y = map.y(i % width, i / width);
            inside[i] = x >= 0 && x <= width - 1 && y >= 0 && y <= height - 1;
            if (inside[i]) {
                seen[i] = between(moving, x, y);
                gradientX[i] = between(slopeX, x, y);
                gradientY[i] = between(slopeY, x, y);
                seenSum += seen[i];
                fixedSum += fixed[i];
                count++;
            }
        }
        if (count < PARAMETERS) {
            return null;
        }
        double[][] hessian = new double[PARAMETERS][PARAMETERS];
        double[] onSeen = new double[PARAMETERS];
        double[] onFixed = new double[PARAMETERS];
        double seenSquares = 0;
        double fixedSquares = 0;
        double correlation = 0;
        for (int i = 0; i < size; i++) {
            if (!inside[i]) {
                continue;
            }
            double s = seen[i] - seenSum / count;
            double f = fixed[i] - fixedSum / count;
            seenSquares += s * s;
            fixedSquares += f * f;
            correlation += s * f;
            double x = i % width;
            double y = i / width;
            double[] row = {gradientX[i] * x, gradientX[i] * y, gradientX[i], gradientY[i] * x, gradientY[i] * y,
                gradientY[i]};
            for (int p = 0; p < PARAMETERS; p++) {
                onSeen[p] += row[p] * s;
                onFixed[p] += row[p] * f;
                for (int q = 0; q <= p; q++) {
                    hessian[p][q] += row[p] * row[q];
                    hessian[q][p] = hessian[p][q];
                }
            }
        }
        double rho = correlation / Math.sqrt(seenSquares * fixedSquares);
        double[] back = solved(hessian, onSeen);
        if (back == null || Double.isNaN(rho)) {
            return null;
        }
        double lambda = (seenSquares - dot(onSeen, back)) / (correlation - dot(onFixed, back));
        if (!(lambda > 0)) {
            return null;
        }
        double[] wanted = new double[PARAMETERS];
        for (int p = 0; p < PARAMETERS; p++) {
            wanted[p] = lambda * onFixed[p] - onSeen[p];
        }
        double[] delta = solved(hessian, wanted);
        Affine next = new Affine(map.a() + delta[0], map.b() + delta[1], map.tx() + delta[2], map.c() + delta[3],
                map.d() + delta[4], map.ty() + delta[5]);
        return next.isFinite() ? new Step(next, rho) : null;
    }

    private double between(float[] picture, double x, double y) {
        int left = (int) x;
        int top = (int) y;
        int right = Math.min(left + 1, width - 1);
        int bottom = Math.min(top + 1, height - 1);
        double dx = x - left;
        double dy = y - top;
        double above = picture[top * width + left] * (1 - dx) + picture[top * width + right] * dx;
        double below = picture[bottom * width + left] * (1 - dx) + picture[bottom * width + right] * dx;
        return above * (1 - dy) + below * dy;
    }

    /** The solution of a symmetric system; null where there is none. */
    private static double[] solved(double[][] matrix, double[] right) {
        int n = right.length;
        double[][] rows = new double[n][];
        for (int i = 0; i < n; i++) {
            rows[i] = Arrays.copyOf(matrix[i], n + 1);
            rows[i][n] = right[i];
        }
        for (int i = 0; i < n; i++) {
            int best = i;
            for (int k = i + 1; k < n; k++) {
                best = Math.abs(rows[k][i]) > Math.abs(rows[best][i]) ? k : best;
            }
            double[] pivot = rows[best];
            rows[best] = rows[i];
            rows[i] = pivot;
            if (!(Math.abs(pivot[i]) > 0)) {
                return null;
            }
            for (int k = i + 1; k < n; k++) {
                double share = rows[k][i] / pivot[i];
                for (int j = i; j <= n; j++) {
                    rows[k][j] -= share * pivot[j];
                }
            }
        }
        double[] out = new double[n];
        for (int i = n - 1; i >= 0; i--) {
            double rest = rows[i][n];
            for (int j = i + 1; j < n; j++) {
                rest -= rows[i][j] * out[j];
            }
            out[i] = rest / rows[i][i];
        }
        return out;
    }

    private static double dot(double[] one, double[] other) {
        double sum = 0;
        for (int i = 0; i < one.length; i++) {
            sum += one[i] * other[i];
        }
        return sum;
    }

    private static float[] smoothed(float[] picture, int width, int height) {
        double[] rows = new double[width * height];
        float[] out = new float[width * height];
        int reach = SMOOTHING.length / 2;
        for (int i = 0; i < rows.length; i++) {
            for (int k = -reach; k <= reach; k++) {
                rows[i] += SMOOTHING[k + reach] * picture[i / width * width + mirrored(i % width + k, width)];
            }
        }
        for (int i = 0; i < rows.length; i++) {
            double sum = 0;
            for (int k = -reach; k <= reach; k++) {
                sum += SMOOTHING[k + reach] * rows[mirrored(i / width + k, height) * width + i % width];
            }
            out[i] = (float) sum;
        }
        return out;
    }

    /** Of five samples, with the width that OpenCV gives to them: 0.3 ((5 - 1) / 2 - 1) + 0.8. */
    private static double[] gaussian() {
        double[] out = new double[5];
        double sum = 0;
        for (int k = 0; k < out.length; k++) {
            out[k] = Math.exp(-(k - 2) * (k - 2) / (2 * 1.1 * 1.1));
            sum += out[k];
        }
        for (int k = 0; k < out.length; k++) {
            out[k] /= sum;
        }
        return out;
    }

    /** The place beyond a border, mirrored about the pixel at it. */
    private static int mirrored(int at, int size) {
        int inside = at < 0 ? -at : at;
        return Math.max(0, inside < size ? inside : 2 * size - 2 - inside);
    }
}
