package org.dualpix.demo.core;

/**
 * Affine maps of pictures, as {@code dualpix.capture.stack.align} has them.
 *
 * <p>Convention: {@code x' = a x + b y + tx}, {@code y' = c x + d y + ty}; pixel centres have whole coordinates, (0, 0)
 * top left, x to the right, y down. The centre of a picture is {@code ((W - 1) / 2, (H - 1) / 2)}.
 */
public record Affine(double a, double b, double tx, double c, double d, double ty) {
    public static final Affine IDENTITY = new Affine(1, 0, 0, 0, 1, 0);

    private static final int GRID = 9;
    private static final double LEAST_AREA = 1e-12;

    /** A scale about the centre: focus breathing and nothing else. */
    public static Affine scaling(double scale, int width, int height) {
        return new Affine(scale, 0, (1 - scale) * (width - 1) / 2, 0, scale, (1 - scale) * (height - 1) / 2);
    }

    public double x(double x, double y) {
        return a * x + b * y + tx;
    }

    public double y(double x, double y) {
        return c * x + d * y + ty;
    }

    /** This map after another. */
    public Affine after(Affine first) {
        return new Affine(a * first.a + b * first.c, a * first.b + b * first.d, x(first.tx, first.ty),
                c * first.a + d * first.c, c * first.b + d * first.d, y(first.tx, first.ty));
    }

    /** The way back; {@link ArithmeticException} where there is none. */
    public Affine inverse() {
        double area = a * d - b * c;
        if (!(Math.abs(area) > LEAST_AREA)) {
            throw new ArithmeticException("a map that cannot be undone");
        }
        return new Affine(d / area, -b / area, (b * ty - d * tx) / area, -c / area, a / area, (c * tx - a * ty) / area);
    }

    /** Root of how much larger areas become. */
    public double scale() {
        return Math.sqrt(Math.max(Math.abs(a * d - b * c), LEAST_AREA));
    }

    /** How much more one direction is stretched than the one across, minus 1. */
    public double stretch() {
        double sum = a * a + b * b + c * c + d * d;
        double area = Math.abs(a * d - b * c);
        double root = Math.sqrt(Math.max(0, sum * sum / 4 - area * area));
        double least = Math.sqrt(Math.max(0, sum / 2 - root));
        return Math.sqrt(sum / 2 + root) / Math.max(least, 1e-9) - 1;
    }

    /** Whether all of it is numbers. */
    public boolean isFinite() {
        return Math.abs(a + b + c + d + tx + ty) < Double.POSITIVE_INFINITY;
    }

    /**
     * The map of one scale, rotation and shift that is closest to this one over a picture.
     *
     * @param scale that it shall have; NaN for its own
     */
    public Affine similarity(int width, int height, double scale) {
        double centreX = (width - 1) / 2.0;
        double centreY = (height - 1) / 2.0;
        double meanX = x(centreX, centreY);
        double meanY = y(centreX, centreY);
        double across = 0;
        double along = 0;
        double size = 0;
        for (int i = 0; i < GRID * GRID; i++) {
            double x = gridAt(i % GRID, width) - centreX;
            double y = gridAt(i / GRID, height) - centreY;
            double u = a * x + b * y;
            double v = c * x + d * y;
            across += x * v - y * u;
            along += x * u + y * v;
            size += x * x + y * y;
        }
        double angle = Math.atan2(across, along);
        double own = (Math.cos(angle) * along + Math.sin(angle) * across) / size;
        double wanted = Double.isNaN(scale) ? own : scale;
        double cos = wanted * Math.cos(angle);
        double sin = wanted * Math.sin(angle);
        return new Affine(cos, -sin, meanX - cos * centreX + sin * centreY, sin, cos,
                meanY - sin * centreX - cos * centreY);
    }

    /** RMS over a picture of how far two maps put a point apart, in pixels. */
    public double distancePx(Affine other, int width, int height) {
        double sum = 0;
        for (int i = 0; i < GRID * GRID; i++) {
            double x = gridAt(i % GRID, width);
            double y = gridAt(i / GRID, height);
            double dx = x(x, y) - other.x(x, y);
            double dy = y(x, y) - other.y(x, y);
            sum += dx * dx + dy * dy;
        }
        return Math.sqrt(sum / (GRID * GRID));
    }

    private static double gridAt(int place, int size) {
        return (size - 1.0) * place / (GRID - 1);
    }
}
