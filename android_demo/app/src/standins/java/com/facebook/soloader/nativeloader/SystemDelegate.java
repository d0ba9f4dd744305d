package com.facebook.soloader.nativeloader;

/** Loads as Java does. */
public class SystemDelegate implements NativeLoaderDelegate {
    @Override
    public boolean loadLibrary(String name, int flags) {
        System.loadLibrary(name);
        return true;
    }
}
