package com.facebook.jni;

/** A native function as a Runnable. */
public class NativeRunnable implements Runnable {
    private final HybridData mHybridData;

    private NativeRunnable(HybridData hybridData) {
        mHybridData = hybridData;
    }

    /** Whether the function is there. */
    public boolean isValid() {
        return mHybridData.isValid();
    }

    @Override
    public native void run();
}
