package com.facebook.jni;

/** A class that is its own native half's owner. */
public abstract class HybridClassBase extends HybridData {}
