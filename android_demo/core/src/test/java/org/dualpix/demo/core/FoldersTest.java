package org.dualpix.demo.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

public class FoldersTest {
    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    @Test
    public void onlyPlainNamesBecomeFiles() throws IOException {
        File root = temporary.getRoot();
        String[] bad = {"", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", ".hidden", "a..b", "x y", null};
        for (String name : bad) {
            assertThrows(String.valueOf(name), ProtocolException.class, () -> Folders.child(root, name));
        }
        assertEquals(new File(root, "model-1.pte"), Folders.child(root, "model-1.pte"));
    }

    @Test
    public void aLinkDoesNotLeadOut() throws IOException {
        File root = temporary.newFolder("files");
        File outside = temporary.newFolder("outside");
        Files.createSymbolicLink(new File(root, "take-1").toPath(), outside.toPath());
        assertThrows(ProtocolException.class, () -> AppFiles.session(root, "take-1"));
        Files.createSymbolicLink(new File(root, "bench").toPath(), outside.toPath());
        assertEquals("the app's own folder may be one", "run-1", AppFiles.bench(root, "run-1").getName());
    }

    @Test
    public void sessionsDoNotTakeTheFoldersOfOthers() {
        File root = temporary.getRoot();
        for (String name : new String[] {"bench", "models", "../x", "A-1"}) {
            assertThrows(ProtocolException.class, () -> AppFiles.session(root, name));
        }
        assertThrows(ProtocolException.class, () -> AppFiles.bench(root, "../take-1"));
        assertEquals("take-1", AppFiles.session(root, "take-1").getName());
    }

    @Test
    public void aFileIsThereWholeOrNotAtAll() throws IOException {
        File file = new File(temporary.getRoot(), "a.bin");
        Folders.Written written = Folders.write(file, out -> out.write(new byte[] {'a', 'b', 'c'}));
        assertEquals("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", written.sha256());
        assertEquals(3, written.bytes());
        assertThrows(IOException.class, () -> Folders.write(file, out -> {
            out.write(1);
            throw new IOException("full");
        }));
        assertEquals("abc", new String(Folders.read(file, 3), "UTF-8"));
        assertEquals(1, temporary.getRoot().list().length);
        assertThrows(IOException.class, () -> Folders.read(file, 2));
        Folders.append(file, "d");
        assertEquals(4, file.length());
    }
}
