package com.facebook.jni;

/** {@code std::system_error}. */
public class CppSystemErrorException extends CppException {
    private static final long serialVersionUID = 1L;

    private final int errorCode;

    public CppSystemErrorException(String message, int errorCode) {
        super(message);
        this.errorCode = errorCode;
    }

    public int getErrorCode() {
        return errorCode;
    }
}
