package com.facebook.jni;

/** An exception of C++. */
public class CppException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public CppException(String message) {
        super(message);
    }
}
