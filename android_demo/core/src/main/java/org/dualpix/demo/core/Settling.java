package org.dualpix.demo.core;

import org.dualpix.demo.core.Messages.SettleRule;

/** Judges report by report whether the lens has come to rest where it was sent. */
public final class Settling {
    /** What the reports amount to. */
    public enum State { WAITING, THERE, ELSEWHERE }

    private final SettleRule rule;
    private final double diopters;
    private final double toleranceD;
    private int there;
    private int elsewhere;

    public Settling(SettleRule rule, double diopters, double toleranceD) {
        this.rule = rule;
        this.diopters = diopters;
        this.toleranceD = toleranceD;
    }

    /** Whether a report is of a lens at rest within the tolerance. */
    public static boolean accepts(CameraPort.Report report, double diopters, double toleranceD) {
        return report.stationary() && Math.abs(report.diopters() - diopters) < toleranceD;
    }

    /** Takes the next report. */
    public State feed(CameraPort.Report report) {
        boolean near = accepts(report, diopters, toleranceD);
        there = near ? there + 1 : 0;
        elsewhere = report.stationary() && !near ? elsewhere + 1 : 0;
        if (there >= rule.stationaryResults()) {
            return State.THERE;
        }
        return elsewhere >= rule.stuckResults() ? State.ELSEWHERE : State.WAITING;
    }
}
