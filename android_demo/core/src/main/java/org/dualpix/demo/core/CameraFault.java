package org.dualpix.demo.core;

import org.dualpix.demo.core.Messages.FailureKind;

/** The camera, or what belongs to it, does not do what was asked. */
public final class CameraFault extends Exception {
    private static final long serialVersionUID = 1L;

    private final FailureKind kind;

    public CameraFault(FailureKind kind, String message) {
        super(String.valueOf(message));
        this.kind = kind;
    }

    public FailureKind kind() {
        return kind;
    }

    /** Whether the session cannot go on after it. */
    public boolean ends() {
        return kind == FailureKind.CAMERA || kind == FailureKind.PERMISSION || kind == FailureKind.THERMAL;
    }
}
