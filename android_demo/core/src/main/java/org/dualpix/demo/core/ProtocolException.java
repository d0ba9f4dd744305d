package org.dualpix.demo.core;

/** What the other side wrote is not of this version, or not of the form; or a path is none that may be used. */
public final class ProtocolException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public ProtocolException(String found) {
        super(found);
    }

    public ProtocolException(String found, String expected) {
        super(found + "; expected " + expected);
    }
}
