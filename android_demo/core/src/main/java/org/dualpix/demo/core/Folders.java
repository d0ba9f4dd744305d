package org.dualpix.demo.core;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.regex.Pattern;

/** Files of the app: every name that came from elsewhere is checked, and what is read is bounded. */
public final class Folders {
    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}");
    private static final int CHUNK = 1 << 16;

    /** Writes the content of a file. */
    public interface Content {
        void write(OutputStream out) throws IOException;
    }

    /** A file that is there, whole. */
    public record Written(long bytes, String sha256) {}

    private Folders() {}

    /**
     * A file or folder directly in {@code parent}, by a name from elsewhere.
     *
     * @throws ProtocolException another name than of letters, digits, dots, hyphens and underscores, or a link that
     *     leads out of the folder
     */
    public static File child(File parent, String name) {
        if (name == null || !NAME.matcher(name).matches() || name.contains("..")) {
            throw new ProtocolException("the name '" + name + "'", "letters, digits, dots, hyphens and underscores");
        }
        File child = new File(parent, name);
        try {
            File real = child.getCanonicalFile();
            if (!parent.getCanonicalFile().equals(real.getParentFile()) || !real.getName().equals(name)) {
                throw new ProtocolException("'" + name + "' leads out of its folder");
            }
        } catch (IOException error) {
            throw new ProtocolException("'" + name + "' cannot be looked up: " + error.getMessage());
        }
        return child;
    }

    /**
     * The whole content of a file.
     *
     * @throws IOException it is not there, or has more than {@code mostBytes}
     */
    public static byte[] read(File file, int mostBytes) throws IOException {
        long size = file.length();
        if (size > mostBytes) {
            throw new IOException("'" + file.getName() + "' has " + size + " bytes; expected at most " + mostBytes);
        }
        byte[] out = new byte[(int) size];
        try (InputStream in = new FileInputStream(file)) {
            int at = 0;
            int got;
            while (at < out.length && (got = in.read(out, at, out.length - at)) > 0) {
                at += got;
            }
            if (at < out.length || in.read() >= 0) {
                throw new IOException("'" + file.getName() + "' changes while it is read");
            }
        }
        return out;
    }

    /** Writes a file whole or not at all: under another name first, synced, then renamed. */
    public static Written write(File file, Content content) throws IOException {
        File part = new File(file.getPath() + ".part");
        MessageDigest digest = sha256();
        try {
            try (FileOutputStream raw = new FileOutputStream(part)) {
                OutputStream out = new java.io.BufferedOutputStream(new DigestOutputStream(raw, digest), CHUNK);
                content.write(out);
                out.flush();
                raw.getFD().sync();
            }
            long bytes = part.length();
            if (!part.renameTo(file)) {
                throw new IOException("'" + part.getName() + "' cannot be renamed");
            }
            return new Written(bytes, hex(digest.digest()));
        } finally {
            part.delete();
        }
    }

    /** Writes a text whole or not at all. */
    public static void write(File file, String text) throws IOException {
        write(file, out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
    }

    /** Appends to a file and waits until it is on the disk. */
    public static void append(File file, String text) throws IOException {
        try (FileOutputStream out = new FileOutputStream(file, true)) {
            out.write(text.getBytes(StandardCharsets.UTF_8));
            out.getFD().sync();
        }
    }

    /** The SHA-256 of a file, in hexadecimal digits. */
    public static String sha256(File file) throws IOException {
        MessageDigest digest = sha256();
        try (InputStream in = new FileInputStream(file)) {
            byte[] chunk = new byte[CHUNK];
            int got;
            while ((got = in.read(chunk)) > 0) {
                digest.update(chunk, 0, got);
            }
        }
        return hex(digest.digest());
    }

    static String hex(byte[] bytes) {
        StringBuilder out = new StringBuilder(2 * bytes.length);
        for (byte b : bytes) {
            out.append(Character.forDigit((b >> 4) & 15, 16)).append(Character.forDigit(b & 15, 16));
        }
        return out.toString();
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }
}
