package com.facebook.soloader.nativeloader;

/** Loads native libraries. */
public interface NativeLoaderDelegate {
    boolean loadLibrary(String name, int flags);
}
