package org.dualpix.demo.core;

import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/** Runs the test classes that are named and says of every test how it went: class, test, ok or why not. */
public final class RunTests {
    private RunTests() {}

    public static void main(String[] names) throws ClassNotFoundException {
        JUnitCore core = new JUnitCore();
        core.addListener(new RunListener() {
            private String why;

            @Override
            public void testStarted(Description test) {
                why = "ok";
            }

            @Override
            public void testFailure(Failure failure) {
                why = failure.getTrace();
            }

            @Override
            public void testFinished(Description test) {
                System.out.println(test.getTestClass().getSimpleName() + "\t" + test.getMethodName() + "\t"
                        + Json.write(why));
            }
        });
        Class<?>[] classes = new Class<?>[names.length];
        for (int i = 0; i < names.length; i++) {
            classes[i] = Class.forName(RunTests.class.getPackage().getName() + "." + names[i]);
        }
        boolean fine = core.run(classes).wasSuccessful();
        System.exit(fine ? 0 : 1);
    }
}
