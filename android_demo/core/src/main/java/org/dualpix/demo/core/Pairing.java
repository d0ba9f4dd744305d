package org.dualpix.demo.core;

import java.util.ArrayDeque;
import java.util.Deque;
import org.dualpix.demo.core.CameraPort.RawImage;
import org.dualpix.demo.core.CameraPort.Report;
import org.dualpix.demo.core.CameraPort.StillPart;

/** Brings an image and the result of the same exposure together, by their time stamps; closes images of others. */
public final class Pairing implements AutoCloseable {
    private static final int MOST_IMAGES = 4;

    private final Deque<RawImage> images = new ArrayDeque<>();
    private Report report;
    private int strangers;
    private long lastStrangerNs;

    /** Takes a part; whether both are there now. */
    public boolean feed(StillPart part) {
        if (part.report() != null) {
            report = part.report();
        }
        if (part.image() != null) {
            images.add(part.image());
        }
        if (report != null) {
            images.removeIf(image -> image.timestampNs() != report.timestampNs() && dropped(image));
        }
        while (images.size() > MOST_IMAGES) {
            dropped(images.remove());
        }
        return report != null && !images.isEmpty();
    }

    /** The result, or null. */
    public Report report() {
        return report;
    }

    /** The image that belongs to the result; the caller closes it. */
    public RawImage takeImage() {
        return images.remove();
    }

    /** What is missing, for people. */
    public String missing() {
        if (report == null) {
            return "no result came for the exposure";
        }
        if (strangers > 0) {
            return "image of time " + lastStrangerNs + ", result of time " + report.timestampNs();
        }
        return "no image came for the result of time " + report.timestampNs();
    }

    @Override
    public void close() {
        images.forEach(RawImage::close);
        images.clear();
    }

    private boolean dropped(RawImage image) {
        strangers++;
        lastStrangerNs = image.timestampNs();
        image.close();
        return true;
    }
}
