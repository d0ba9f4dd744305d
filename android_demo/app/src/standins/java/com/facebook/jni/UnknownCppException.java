package com.facebook.jni;

/** Something else than an exception, thrown in C++. */
public class UnknownCppException extends CppException {
    private static final long serialVersionUID = 1L;

    public UnknownCppException() {
        super("unknown");
    }

    public UnknownCppException(String message) {
        super(message);
    }
}
