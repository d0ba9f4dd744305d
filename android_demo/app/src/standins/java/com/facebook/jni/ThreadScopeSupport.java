package com.facebook.jni;

/** Runs native functions on threads that Java's class loader knows. */
public class ThreadScopeSupport {
    private ThreadScopeSupport() {}

    private static void runStdFunction(long pointer) {
        runStdFunctionImpl(pointer);
    }

    private static native void runStdFunctionImpl(long pointer);
}
