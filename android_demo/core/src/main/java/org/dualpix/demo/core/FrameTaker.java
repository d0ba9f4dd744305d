package org.dualpix.demo.core;

import java.util.Locale;
import java.util.function.BooleanSupplier;
import org.dualpix.demo.core.CameraPort.Aim;
import org.dualpix.demo.core.CameraPort.RawImage;
import org.dualpix.demo.core.CameraPort.Report;
import org.dualpix.demo.core.CameraPort.StillPart;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.SettleRule;

/**
 * Takes a frame of a sweep: sends the lens, waits until it is at rest where it should be, takes a still, and accepts it
 * only if its own result says the same and its image has the result's time stamp.
 *
 * <p>Everything is bounded: the lens is sent {@code retries + 1} times, a still taken {@link #STILLS} times.
 */
public final class FrameTaker {
    /** Stills for one frame before it counts as failed. */
    public static final int STILLS = 3;

    static final long STILL_LIMIT_MS = 2000;
    private static final long LOOK_MS = 100;

    /** The session is to end; nothing went wrong. */
    public static final class Interrupted extends Exception {
        private static final long serialVersionUID = 1L;
    }

    /** A frame that was accepted; the image is to be closed. */
    public record Taken(Report report, RawImage image, int settleMs, int settleResults) {}

    private final CameraPort port;
    private final Clock clock;
    private final SettleRule rule;
    private final BooleanSupplier stop;

    /** Takes frames through {@code port} until {@code stop} says to end. */
    public FrameTaker(CameraPort port, Clock clock, SettleRule rule, BooleanSupplier stop) {
        this.port = port;
        this.clock = clock;
        this.rule = rule;
        this.stop = stop;
    }

    /**
     * Takes one frame.
     *
     * @throws CameraFault {@code FOCUS} where the lens does not come to rest there, {@code CAPTURE} where no still is
     *     whole, and what the port itself reports
     * @throws Interrupted the session is to end
     */
    public Taken take(Aim aim, double toleranceD) throws CameraFault, Interrupted {
        long started = clock.millis();
        int results = 0;
        String why = "";
        FailureKind kind = FailureKind.CAPTURE;
        for (int still = 0; still < STILLS; still++) {
            results += settle(aim, toleranceD);
            long settled = clock.millis();
            port.shoot(aim);
            try (Pairing pairing = new Pairing()) {
                if (!pair(pairing, settled + STILL_LIMIT_MS + aim.exposureNs() / 1_000_000)) {
                    why = pairing.missing();
                    kind = FailureKind.CAPTURE;
                } else if (!Settling.accepts(pairing.report(), aim.diopters(), toleranceD)) {
                    why = where(pairing.report(), aim) + " in the frame itself";
                    kind = FailureKind.FOCUS;
                } else {
                    return new Taken(pairing.report(), pairing.takeImage(), (int) (settled - started), results);
                }
            }
        }
        throw new CameraFault(kind, why + " (" + STILLS + " times)");
    }

    private int settle(Aim aim, double toleranceD) throws CameraFault, Interrupted {
        int results = 0;
        Report last = null;
        for (int attempt = 0; attempt <= rule.retries(); attempt++) {
            port.send(aim);
            Settling settling = new Settling(rule, aim.diopters(), toleranceD);
            Settling.State state = Settling.State.WAITING;
            long giveUp = clock.millis() + rule.timeoutMs();
            while (state == Settling.State.WAITING && clock.millis() < giveUp) {
                checkStop();
                Report report = port.nextReport(Math.min(LOOK_MS, giveUp - clock.millis()));
                if (report != null) {
                    results++;
                    last = report;
                    state = settling.feed(report);
                }
            }
            if (state == Settling.State.THERE) {
                return results;
            }
        }
        throw new CameraFault(FailureKind.FOCUS, last == null ? "no word from the lens" : where(last, aim));
    }

    private boolean pair(Pairing pairing, long giveUp) throws CameraFault, Interrupted {
        while (clock.millis() < giveUp) {
            checkStop();
            StillPart part = port.nextPart(Math.min(LOOK_MS, giveUp - clock.millis()));
            if (part != null && pairing.feed(part)) {
                return true;
            }
        }
        return false;
    }

    private void checkStop() throws Interrupted {
        if (stop.getAsBoolean()) {
            throw new Interrupted();
        }
    }

    private static String where(Report report, Aim aim) {
        return String.format(Locale.ROOT, "lens at %.3f, sent to %.3f%s", report.diopters(), aim.diopters(),
                report.stationary() ? "" : ", still moving");
    }
}
